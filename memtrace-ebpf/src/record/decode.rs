//! Records as they come out of the ring buffer, decoded.

use alloc::boxed::Box;

use bytemuck::{Pod, try_pod_read_unaligned};

use super::{
    Birth, BirthDetail, Call, Exec, ExistingTask, Exit, Failed, Fault, FaultPending, Gone, Handled,
    Header, Kind, Objects, Pages, Path, Rename, Returned, Surveyed, SwitchIn, SwitchOut,
    Unobserved, Vma,
};

/// A record of the hooks. The rare large ones are boxed, as most are faults.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// See [`Fault`].
    Fault(Fault),
    /// See [`Handled`].
    Handled(Handled),
    /// See [`Vma`].
    Vma(Box<Vma>),
    /// See [`Path`]; with the path's bytes as they were sent.
    Path(Path, Box<[u8]>),
    /// See [`Birth`].
    Birth(Box<Birth>),
    /// See [`Exec`]; with the name and the arguments.
    Exec(Box<Exec>, Box<[u8]>),
    /// See [`Failed`]; with the name.
    Failed(Box<Failed>, Box<[u8]>),
    /// See [`Exit`].
    Exit(Exit),
    /// See [`Gone`].
    Gone(Box<Gone>),
    /// See [`Call`].
    Call(Box<Call>),
    /// See [`Unobserved`].
    Unobserved(Unobserved),
    /// See [`Rename`].
    Rename(Rename),
    /// See [`FaultPending`].
    FaultPending(FaultPending),
    /// See [`Pages`].
    Pages(Box<Pages>),
    /// See [`Returned`].
    Returned(Returned),
    /// See [`Objects`].
    Objects(Box<Objects>),
    /// See [`ExistingTask`].
    ExistingTask(Box<ExistingTask>),
    /// See [`Surveyed`].
    Surveyed(Box<Surveyed>),
    /// See [`BirthDetail`].
    BirthDetail(Box<BirthDetail>),
    /// See [`SwitchIn`].
    SwitchIn(Box<SwitchIn>),
    /// See [`SwitchOut`].
    SwitchOut(SwitchOut),
}

impl Record {
    /// Decodes one record; `None` when the bytes are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let header: Header = head(bytes)?.0;
        Some(match Kind::from_number(header.kind)? {
            Kind::Fault => Self::Fault(head(bytes)?.0),
            Kind::Handled => Self::Handled(head(bytes)?.0),
            Kind::Vma => Self::Vma(Box::new(head(bytes)?.0)),
            Kind::Path => {
                let (path, rest) = head::<Path>(bytes)?;
                Self::Path(path, rest.get(..path.len as usize)?.into())
            }
            Kind::Birth => Self::Birth(Box::new(head(bytes)?.0)),
            Kind::Exec => {
                let (exec, rest) = head::<Exec>(bytes)?;
                let len = exec.name_len as usize + exec.args_len as usize;
                Self::Exec(Box::new(exec), rest.get(..len)?.into())
            }
            Kind::Failed => {
                let (failed, rest) = head::<Failed>(bytes)?;
                let name = rest.get(..failed.name_len as usize)?.into();
                Self::Failed(Box::new(failed), name)
            }
            Kind::Exit => Self::Exit(head(bytes)?.0),
            Kind::Gone => Self::Gone(Box::new(head(bytes)?.0)),
            Kind::Call => Self::Call(Box::new(head(bytes)?.0)),
            Kind::Unobserved => Self::Unobserved(head(bytes)?.0),
            Kind::Rename => Self::Rename(head(bytes)?.0),
            Kind::FaultPending => Self::FaultPending(head(bytes)?.0),
            Kind::Pages => Self::Pages(Box::new(head(bytes)?.0)),
            Kind::Returned => Self::Returned(head(bytes)?.0),
            Kind::Objects => Self::Objects(Box::new(head(bytes)?.0)),
            Kind::ExistingTask => Self::ExistingTask(Box::new(head(bytes)?.0)),
            Kind::Surveyed => Self::Surveyed(Box::new(head(bytes)?.0)),
            Kind::BirthDetail => Self::BirthDetail(Box::new(head(bytes)?.0)),
            Kind::SwitchIn => Self::SwitchIn(Box::new(head(bytes)?.0)),
            Kind::SwitchOut => Self::SwitchOut(head(bytes)?.0),
        })
    }

    /// Whether the bytes are a fault's record: without a look at the rest.
    pub fn is_fault(bytes: &[u8]) -> bool {
        let kind = head::<Header>(bytes).and_then(|(header, _)| Kind::from_number(header.kind));
        matches!(kind, Some(Kind::Fault | Kind::Handled))
    }

    /// What it begins with.
    pub const fn header(&self) -> &Header {
        match self {
            Self::Fault(record) => &record.head,
            Self::Handled(record) => &record.fault.head,
            Self::Vma(record) => &record.head,
            Self::Path(record, _) => &record.head,
            Self::Birth(record) => &record.head,
            Self::Exec(record, _) => &record.head,
            Self::Failed(record, _) => &record.head,
            Self::Exit(record) => &record.head,
            Self::Gone(record) => &record.head,
            Self::Call(record) => &record.head,
            Self::Unobserved(record) => &record.head,
            Self::Rename(record) => &record.head,
            Self::FaultPending(record) => &record.head,
            Self::Pages(record) => &record.head,
            Self::Returned(record) => &record.head,
            Self::Objects(record) => &record.head,
            Self::ExistingTask(record) => &record.head,
            Self::Surveyed(record) => &record.head,
            Self::BirthDetail(record) => &record.head,
            Self::SwitchIn(record) => &record.head,
            Self::SwitchOut(record) => &record.head,
        }
    }
}

/// The structure at the beginning of `bytes`, and what follows it.
fn head<T: Pod>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (head, rest) = bytes.split_at_checked(size_of::<T>())?;
    Some((try_pod_read_unaligned(head).ok()?, rest))
}
