//! The same rules page by page, with each branch of each tree written down. Slow, and too simple to be wrong.

use std::{cmp::Reverse, collections::BTreeMap, ops::Range};

use crate::trace::{
    event::{Area, ForkAccount},
    sharing::ForkArea,
};

/// A page of an address space.
pub type Node = (u32, u64);

/// What became of a page that a fork left shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Shared,
    ByChild,
    ByParent,
    ByOthers,
    AtOnce,
    TakenOver,
    Exec,
    Exit,
    Munmap,
    Unknown,
}

/// Two nodes that map one frame, as a fork copied a page.
struct Branch {
    fork: u32,
    /// Where the page was at the fork.
    page: u64,
    ends: [Node; 2],
}

struct Forked {
    parent: u32,
    child: u32,
    areas: Vec<ForkArea>,
    execed: bool,
    before_exec: u64,
    copied_again: u64,
}

#[derive(Default)]
pub struct Naive {
    forks: BTreeMap<u32, Forked>,
    branches: Vec<Branch>,
    fates: BTreeMap<(u32, u64), Fate>,
    /// Who is left as the sole owner of a page: the fork, and where the page was.
    sole_owners: BTreeMap<Node, (u32, u64)>,
}

impl Naive {
    pub fn fork(
        &mut self,
        fork: u32,
        [parent, child]: [u32; 2],
        areas: Vec<ForkArea>,
        pages: &[u64],
        at_once: &[u64],
    ) {
        let forked = Forked {
            parent,
            child,
            areas,
            execed: false,
            before_exec: 0,
            copied_again: 0,
        };
        self.forks.insert(fork, forked);
        for &page in pages {
            self.sole_owners.remove(&(parent, page));
            self.fates.insert((fork, page), Fate::Shared);
            self.branches.push(Branch {
                fork,
                page,
                ends: [(parent, page), (child, page)],
            });
        }
        for &page in at_once {
            self.fates.insert((fork, page), Fate::AtOnce);
        }
    }

    /// A node leaves its tree: the branch that ended, and who was left as sole owner.
    fn leave(&mut self, node: Node) -> Option<(u32, u64, Option<Node>)> {
        let at_node = |branch: &mut Branch| branch.ends.contains(&node);
        let mut cut: Vec<Branch> = self.branches.extract_if(.., at_node).collect();
        cut.sort_by_key(|branch| Reverse(branch.fork));
        let far = |branch: &Branch| branch.ends[usize::from(branch.ends[0] == node)];
        for pair in cut.windows(2) {
            self.branches.push(Branch {
                fork: pair[1].fork,
                page: pair[1].page,
                ends: [far(&pair[0]), far(&pair[1])],
            });
        }
        let first = cut.first()?;
        let other = far(first);
        let is_sole = !self
            .branches
            .iter()
            .any(|branch| branch.ends.contains(&other));
        Some((first.fork, first.page, is_sole.then_some(other)))
    }

    fn by(&self, fork: u32, mm: u32) -> Fate {
        let forked = &self.forks[&fork];
        if mm == forked.child {
            Fate::ByChild
        } else if mm == forked.parent {
            Fate::ByParent
        } else {
            Fate::ByOthers
        }
    }

    /// The fork to blame, and whether it was for a reference.
    pub fn copied(&mut self, node: Node) -> Option<(u32, bool)> {
        if let Some((fork, page, sole)) = self.leave(node) {
            self.fates.insert((fork, page), self.by(fork, node.0));
            if let Some(other) = sole {
                self.sole_owners.insert(other, (fork, page));
            }
            return Some((fork, false));
        }
        let (fork, page) = self.sole_owners.remove(&node)?;
        let fate = self.fates[&(fork, page)];
        match fate {
            Fate::ByChild | Fate::ByParent | Fate::ByOthers => {
                self.forks.get_mut(&fork)?.copied_again += 1;
            }
            _ => {
                self.fates.insert((fork, page), self.by(fork, node.0));
            }
        }
        Some((fork, fate != Fate::TakenOver))
    }

    pub fn taken_over(&mut self, node: Node) -> Option<u32> {
        if let Some((fork, page, sole)) = self.leave(node) {
            self.fates.insert((fork, page), Fate::TakenOver);
            if let Some(other) = sole {
                self.sole_owners.insert(other, (fork, page));
            }
            return Some(fork);
        }
        let (fork, page) = self.sole_owners.remove(&node)?;
        let fate = self.fates.get_mut(&(fork, page))?;
        if !matches!(fate, Fate::ByChild | Fate::ByParent | Fate::ByOthers) {
            *fate = Fate::TakenOver;
        }
        Some(fork)
    }

    pub fn lost(&mut self, node: Node) {
        if let Some((fork, page, _)) = self.leave(node) {
            self.fates.insert((fork, page), Fate::Unknown);
        } else {
            self.sole_owners.remove(&node);
        }
    }

    /// Gives a page up.
    pub fn gave_up(&mut self, node: Node, fate: Fate) {
        if let Some((fork, page, sole)) = self.leave(node) {
            self.fates.insert((fork, page), fate);
            if let Some(other) = sole {
                self.sole_owners.insert(other, (fork, page));
            }
        } else {
            self.sole_owners.remove(&node);
        }
    }

    pub fn moved(&mut self, mm: u32, from: Range<u64>, to: u64) {
        let target = to..to + (from.end - from.start);
        for page in target {
            self.gave_up((mm, page), Fate::Munmap);
        }
        let moved = |node: Node| {
            if node.0 == mm && from.contains(&node.1) {
                (mm, node.1 - from.start + to)
            } else {
                node
            }
        };
        for branch in &mut self.branches {
            branch.ends = branch.ends.map(moved);
        }
        self.sole_owners = std::mem::take(&mut self.sole_owners)
            .into_iter()
            .map(|(node, what)| (moved(node), what))
            .collect();
    }

    pub fn execed(&mut self, mm: u32) {
        for (number, fork) in &mut self.forks {
            if fork.child == mm {
                fork.execed = true;
                let copied = [Fate::ByChild, Fate::ByParent, Fate::ByOthers];
                let fates = self.fates.range((*number, 0)..(*number + 1, 0));
                fork.before_exec = fates.filter(|(_, fate)| copied.contains(fate)).count() as u64;
            }
        }
    }

    /// How many branches are due to forks, and how many nodes are sole owners.
    pub fn sizes(&self) -> (usize, usize) {
        (self.branches.len(), self.sole_owners.len())
    }

    /// The numbers of an account, without what the fork only was given.
    pub fn account(&self, number: u32) -> ForkAccount {
        let fork = &self.forks[&number];
        let mut account = ForkAccount {
            number,
            before_exec: fork.before_exec,
            execed: fork.execed,
            copied_again: fork.copied_again,
            ..ForkAccount::default()
        };
        for area in &fork.areas {
            for (&(_, page), fate) in self.fates.range((number, 0)..(number + 1, 0)) {
                if area.pages.contains(&page) {
                    count(&mut account, area, *fate);
                }
            }
        }
        account
    }
}

fn count(account: &mut ForkAccount, area: &ForkArea, fate: Fate) {
    let same = |of: &Area| of.region == area.region && of.file == area.file;
    if !account.areas.iter().any(same) {
        let empty = Area::empty(area.region, area.file.clone());
        account.areas.push(empty);
    }
    let Some(of) = account.areas.iter_mut().find(|of| same(of)) else {
        return;
    };
    account.pages += 1;
    of.pages += 1;
    let (total, in_area) = match fate {
        Fate::Shared => (&mut account.still_shared, &mut of.still_shared),
        Fate::ByChild => (&mut account.by_child, &mut of.copied),
        Fate::ByParent => (&mut account.by_parent, &mut of.copied),
        Fate::ByOthers => (&mut account.by_others, &mut of.copied),
        Fate::AtOnce => (&mut account.at_once, &mut of.copied),
        Fate::TakenOver => (&mut account.taken_over, &mut of.taken_over),
        Fate::Exec => (&mut account.given_up.exec, &mut of.given_up),
        Fate::Exit => (&mut account.given_up.exit, &mut of.given_up),
        Fate::Munmap => (&mut account.given_up.munmap, &mut of.given_up),
        Fate::Unknown => (&mut account.unknown, &mut of.unknown),
    };
    *total += 1;
    *in_area += 1;
}
