//! Histories that nobody thought of.

use super::world::World;

#[test]
fn short_histories_agree_with_the_naive_model() {
    for seed in 0..2000 {
        let mut world = World::new(seed);
        for _ in 0..24 {
            world.step();
        }
        world.finish();
    }
}

#[test]
fn a_long_history_agrees_with_the_naive_model() {
    let mut world = World::new(1 << 40);
    for _ in 0..3000 {
        world.step();
    }
    world.finish();
}
