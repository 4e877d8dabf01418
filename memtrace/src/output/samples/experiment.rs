//! What only the lab gets.

use crate::trace::event::{Address, BirthDetail, Both, EventKind, Return, SwitchIn, SwitchOut};

/// Every such event, and each way it can be told.
pub(in crate::output) fn experiment() -> Vec<EventKind> {
    let both = |parent, child| Both { parent, child };
    let born = BirthDetail {
        child_pid: 1235,
        child_tid: 1235,
        task: both(Some(1), Some(2)),
        kernel_stack: both(Some(1), None),
        callers: vec![
            Address(0xffff_ffff_8112_3456),
            Address(0xffff_ffff_8112_3500),
        ],
    };
    let runs = SwitchIn {
        cpu: 1,
        task: Some(2),
        kernel_stack: Some(2),
        mm: Some(3),
        tls: Address(0x7f12_3456_7740),
        policy: Some("SCHED_OTHER".into()),
        nice: Some(5),
        rt_priority: 0,
    };
    let real_time = SwitchIn {
        policy: Some("SCHED_FIFO".into()),
        rt_priority: 10,
        ..runs.clone()
    };
    let untold = SwitchIn {
        kernel_stack: None,
        mm: None,
        policy: None,
        nice: None,
        ..runs.clone()
    };
    let rests = [true, false].map(|runnable| EventKind::SwitchOut(SwitchOut { cpu: 0, runnable }));
    let returns = [(false, 1235), (true, 0)].map(|(in_child, ret)| {
        EventKind::Return(Return {
            call: "fork".into(),
            in_child,
            ret,
            ip: Address(0x7f12_3456_789a),
        })
    });
    let mut all = vec![EventKind::BirthDetail(born)];
    all.extend([runs, real_time, untold].map(EventKind::SwitchIn));
    all.extend(rests);
    all.extend(returns);
    all
}
