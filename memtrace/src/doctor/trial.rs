//! Trials of what the kernel grants to eBPF, each with a program or map that does nothing.

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Btf, Ebpf, EbpfLoader, Endianness, VerifierLogLevel, include_bytes_aligned,
    maps::MapType,
    programs::{
        FEntry, PerfEvent, Program, ProgramType, RawTracePoint,
        perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
    },
    sys::{BpfHelper, is_helper_supported, is_map_supported},
};

use super::findings::Tried;
use crate::{kernel::again::again, probe::FUNCTION};

/// The programs.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/memtrace-trial"));
/// Nanoseconds until the timer would run the program; it is taken away before.
const LATER: u64 = 1_000_000_000;

/// A map of the simplest kind: whether memtrace may call bpf(2) at all.
pub fn bpf() -> Tried<()> {
    map(MapType::Array)
}

/// A map of the kind that the records come through (Linux 5.8).
pub fn ring_buffer() -> Tried<()> {
    map(MapType::RingBuf)
}

fn map(kind: MapType) -> Tried<()> {
    let supported = is_map_supported(kind).map_err(anyhow::Error::from);
    known(supported, "this kernel doesn't know such maps").into()
}

/// The helper that reads kernel memory. Newer kernels refuse it at the load when they are locked down for
/// confidentiality (`bpf_base_func_proto` in `kernel/bpf/helpers.c`), older ones when it is called.
pub fn kernel_reads() -> Tried<()> {
    let helper = BpfHelper::BPF_FUNC_probe_read_kernel;
    let supported = again(|| is_helper_supported(ProgramType::RawTracePoint, helper))
        .map_err(anyhow::Error::from);
    known(supported, "this kernel doesn't let eBPF read its memory").into()
}

fn known(supported: Result<bool>, otherwise: &'static str) -> Result<()> {
    if supported? { Ok(()) } else { bail!(otherwise) }
}

/// Loads a program at the entry of the function that page faults are observed at, and attaches it for a moment. The types tell where that is.
pub fn fentry(types: Result<&[u8], &String>) -> Tried<()> {
    let attach = || {
        let btf = types
            .map_err(|why| anyhow!("{why}"))
            .and_then(|types| Ok(Btf::parse(types, Endianness::default())?))
            .context("where a function begins is in the kernel's types (BTF)")?;
        let mut ebpf = load()?;
        let program: &mut FEntry = program(&mut ebpf, "function")?.try_into()?;
        again(|| program.load(FUNCTION, &btf))
            .with_context(|| format!("the kernel refuses a program at the entry of {FUNCTION}"))?;
        program
            .attach()
            .with_context(|| format!("the kernel doesn't attach a program to {FUNCTION}"))?;
        Ok(())
    };
    attach().into()
}

/// Attaches a program for a moment to each of these tracepoints.
///
/// # Errors
/// The program can't be loaded: that of no tracepoint could.
pub fn tracepoints(names: impl Iterator<Item = String>) -> Result<Vec<(String, Tried<()>)>> {
    let mut ebpf = load()?;
    let program: &mut RawTracePoint = program(&mut ebpf, "tracepoint")?.try_into()?;
    again(|| program.load()).context("the kernel refuses a program for tracepoints")?;
    names
        .map(|name| {
            let attached = match program.attach(&name) {
                Ok(link) => Tried::Works(program.detach(link)?),
                Err(error) => Tried::from(Err(error.into())),
            };
            Ok((name, attached))
        })
        .collect()
}

/// Runs a program by a timer on this CPU, which is taken away before it runs.
pub fn timer(cpu: u32) -> Tried<()> {
    let attach = || {
        let mut ebpf = load()?;
        let program: &mut PerfEvent = program(&mut ebpf, "timer")?.try_into()?;
        again(|| program.load()).context("the kernel refuses a program for timers")?;
        program
            .attach(
                PerfEventConfig::Software(SoftwareEvent::CpuClock),
                PerfEventScope::AllProcessesOneCpu { cpu },
                SamplePolicy::Period(LATER),
                false,
            )
            .with_context(|| format!("can't open a timer on CPU {cpu}"))?;
        Ok(())
    };
    attach().into()
}

fn load() -> Result<Ebpf> {
    EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::STATS)
        .load(OBJECT)
        .context("the kernel refuses an empty program")
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    ebpf.program_mut(name)
        .with_context(|| format!("the object has no program {name}"))
}
