//! Loading the hooks into the kernel and attaching them.

use std::{path::Path, thread};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{
    Btf, Ebpf, EbpfLoader, VerifierLogLevel, include_bytes_aligned,
    maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues, RingBuf},
    programs::{
        PerfEvent, Program, ProgramType, RawTracePoint,
        perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
    },
    sys::{BpfHelper, is_helper_supported},
    util::{nr_cpus, online_cpus},
};
use aya_log::EbpfLogger;
use log::LevelFilter;
use memtrace_ebpf::{
    arch::FAULT_TRACEPOINTS,
    layout::{Layout, Task},
};

use super::{
    adopt,
    backend::{self, Backend},
    direct_map,
    log::ToStderr,
    read::Reader,
};
use crate::kernel::{check_page_size, clock::now, fentry, layout, zero_page::Sample};

/// Where the running kernel shows its type information.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// Nanoseconds between two ticks on a CPU: how late a fault of a thread that only computes is shown.
const TICK_PERIOD: u64 = 10_000_000;
/// Bytes of the ring buffer: room for a million faults and more, should the reader not get a CPU for a while.
const RING_BYTES: u32 = 64 << 20;
/// The same where no fault is sent.
const SUMMARY_RING_BYTES: u32 = 8 << 20;
/// The hook that is attached for a moment at start.
const FIND_DIRECT_MAP: &str = "find_direct_map";
/// The hook that is attached for a moment by `memtrace attach`.
const ADOPT_PROCESS: &str = "adopt_process";

/// Who is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traced {
    /// A program from its birth; with `follow` its descendants, too.
    Started { follow: bool },
    /// Processes that have run before, and what they start.
    Running,
    /// A program of the lab from its birth, with its descendants; the hooks tell more than else.
    Experiment,
}

/// What the hooks are asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Who is traced.
    pub traced: Traced,
    /// Whether faults are counted in the kernel and not sent.
    pub summary: bool,
    /// Whether the hooks' own diagnostics are wanted.
    pub verbose: bool,
    /// How page faults are observed; what the kernel grants, if nobody says.
    pub backend: Option<Backend>,
}

/// The hooks, loaded and attached. The next process that memtrace forks is traced from its birth. They are gone from
/// the kernel when this is dropped, or when memtrace ends in any way.
pub struct Probe {
    ebpf: Ebpf,
    log: Option<EbpfLogger<ToStderr>>,
    /// How page faults are observed.
    pub backend: Backend,
    /// The zero page's frame.
    pub zero_pfn: u64,
}

impl Probe {
    /// Loads and attaches all hooks.
    ///
    /// # Errors
    /// The kernel lacks something or refuses; the message says what.
    pub fn attach(options: Options) -> Result<Self> {
        check_page_size()?;
        let attached = Self::try_to_attach(options);
        match &attached {
            // A kernel may load a hook on a function, and then not attach it.
            Err(_) if options.backend.is_none() => Self::try_to_attach(Options {
                backend: Some(Backend::Tracepoints),
                ..options
            }),
            _ => attached,
        }
    }

    fn try_to_attach(options: Options) -> Result<Self> {
        let sample = Sample::new()?;
        let (layout, btf, loader) = thread::scope(|scope| {
            let types = scope.spawn(|| types(options.backend));
            // It reads the kernel's BTF, too, which takes the most time of all: so beside ours.
            let loader = EbpfLoader::new();
            let (layout, btf) = types
                .join()
                .map_err(|_| anyhow!("reading {BTF} failed"))??;
            anyhow::Ok((layout, btf, loader))
        })?;
        let task = task(options, btf.is_some(), &sample)?;
        let mut ebpf = load(loader, &layout, &task, options.verbose)?;
        find_direct_map(&mut ebpf, &sample)?;
        let log = options
            .verbose
            .then(|| EbpfLogger::init_with_logger(&mut ebpf, ToStderr))
            .transpose()
            .context("can't read the hooks' diagnostics")?;
        attach(&mut ebpf)?;
        let backend = if let Some(btf) = btf {
            backend::attach(&mut ebpf, &btf)?;
            Backend::Fentry
        } else {
            Backend::Tracepoints
        };
        Ok(Self {
            ebpf,
            log,
            backend,
            zero_pfn: sample.zero,
        })
    }

    /// The end of the pipe that the records come out of. Only the first call gives one.
    ///
    /// # Errors
    /// The object has no such maps, or they can't be mapped.
    pub fn reader(&mut self) -> Result<Reader> {
        let mut take = |name| {
            self.ebpf
                .take_map(name)
                .with_context(|| format!("the object has no map {name}"))
        };
        Ok(Reader::new(
            RingBuf::try_from(take("RECORDS")?).context("can't map the ring buffer")?,
            PerCpuArray::try_from(take("LOST")?)?,
            PerCpuArray::try_from(take("WRITTEN_UNTIL")?)?,
            HashMap::try_from(take("THREADS")?)?,
            Array::try_from(take("STATES")?)?,
        ))
    }

    /// Shows what the hooks have said of themselves, with `verbose`.
    pub fn show_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Takes the hooks off the kernel: nothing more is written. What was written can still be read.
    ///
    /// The kernel detaches one after the other, which takes a while. So all are told first to do nothing more: else one would
    /// tell of what another no longer sees.
    pub fn detach(mut self) {
        self.show_log();
        let stopped = self
            .ebpf
            .map_mut("DIRECT_MAP")
            .map(Array::<_, [u64; direct_map::WORDS]>::try_from);
        if let Some(Ok(mut map)) = stopped {
            // Where it can't be told they still go, one after the other.
            let _ = direct_map::stop(&mut map);
        }
    }

    /// Takes these running processes under trace, ids as memtrace's pid namespace has them, with all their threads, and
    /// has the hooks send what their memory is made of. Returns those of
    /// which a thread was there that was not traced yet.
    ///
    /// # Errors
    /// The kernel refuses the hook for it.
    pub fn adopt(&mut self, pids: &[u32]) -> Result<Vec<u32>> {
        let program = tracepoint(&mut self.ebpf, ADOPT_PROCESS)?;
        // It is asked again, with `--tree`, for children that have been born meanwhile.
        if program.fd().is_err() {
            program
                .load()
                .context("the kernel refused the hook adopt_process")?;
        }
        let link = program
            .attach("sys_enter")
            .context("can't attach to raw_syscalls:sys_enter")?;
        let map: Array<&mut MapData, [u64; adopt::WORDS]> = Array::try_from(
            self.ebpf
                .map_mut("ADOPTED")
                .context("the object has no map ADOPTED")?,
        )?;
        let adopted = adopt::adopt(&map, pids);
        tracepoint(&mut self.ebpf, ADOPT_PROCESS)?.detach(link)?;
        adopted
    }
}

/// What the kernel's type information says; for the hooks on a function, if they are wanted and granted, aya's form of it, too.
fn types(wanted: Option<Backend>) -> Result<(Layout, Option<Btf>)> {
    let types = layout::read(Path::new(BTF), backend::FUNCTION)?;
    let fentry =
        wanted != Some(Backend::Tracepoints) && types.function.is_some_and(fentry::is_granted);
    ensure!(
        fentry || wanted != Some(Backend::Fentry),
        "this kernel, or its policy, doesn't let {} be hooked (fentry): use --backend tracepoints",
        backend::FUNCTION
    );
    let btf = fentry.then(Btf::from_sys_fs).transpose()?;
    Ok((types.layout, btf))
}

/// Whether the kernel's helpers give typed pointers to a task, and to its registers.
fn has_typed_helpers() -> bool {
    [
        BpfHelper::BPF_FUNC_get_current_task_btf,
        BpfHelper::BPF_FUNC_task_pt_regs,
    ]
    .into_iter()
    .all(|helper| {
        matches!(
            is_helper_supported(ProgramType::RawTracePoint, helper),
            Ok(true)
        )
    })
}

fn task(options: Options, handled: bool, sample: &Sample) -> Result<Task> {
    Ok(Task {
        follow: u32::from(options.traced != Traced::Started { follow: false }),
        summary: u32::from(options.summary),
        zero_pfn: u32::try_from(sample.zero)
            .context("the zero page's frame number is beyond 16 TiB")?,
        // What was shared before the trace shows in how often a frame is mapped alone.
        look: u32::from(options.traced == Traced::Running || !options.summary),
        detail: u32::from(options.traced == Traced::Experiment),
        handled: u32::from(handled),
        typed: u32::from(has_typed_helpers()),
        pad: 0,
        frames: sample.frames,
        file_frames: sample.file_frames,
    })
}

/// Loads the object's maps and relocates its programs.
fn load<'a>(
    mut loader: EbpfLoader<'a>,
    layout: &'a Layout,
    task: &'a Task,
    verbose: bool,
) -> Result<Ebpf> {
    let ring = if task.summary == 0 {
        RING_BYTES
    } else {
        SUMMARY_RING_BYTES
    };
    let level: &'static u8 = if verbose {
        &(LevelFilter::Trace as u8)
    } else {
        &(LevelFilter::Off as u8)
    };
    loader
        .verifier_log_level(VerifierLogLevel::DISABLE)
        .override_global("LAYOUT", bytemuck::bytes_of(layout), true)
        .override_global("CONFIG", bytemuck::bytes_of(task), true)
        .override_global(aya_log::LEVEL, level, true)
        .map_max_entries("RECORDS", ring)
        .load(include_bytes_aligned!(concat!(
            env!("OUT_DIR"),
            "/memtrace-probe"
        )))
        .context("the kernel refused the BPF object's maps")
}

/// Has the hook for it find the direct map, then takes that hook away.
fn find_direct_map(ebpf: &mut Ebpf, sample: &Sample) -> Result<()> {
    let program = tracepoint(ebpf, FIND_DIRECT_MAP)?;
    program
        .load()
        .context("the kernel refused the hook find_direct_map")?;
    let link = program
        .attach("sys_enter")
        .context("can't attach to raw_syscalls:sys_enter")?;
    let map: Array<&mut MapData, [u64; direct_map::WORDS]> = Array::try_from(
        ebpf.map_mut("DIRECT_MAP")
            .context("the object has no map DIRECT_MAP")?,
    )?;
    let found = direct_map::find(&map, sample);
    tracepoint(ebpf, FIND_DIRECT_MAP)?.detach(link)?;
    found
}

fn tracepoint<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut RawTracePoint> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no hook {name}"))?;
    Ok(program.try_into()?)
}

/// Loads and attaches a hook: each has the name of its tracepoint, but for that of page faults, which has two or none.
fn attach_hook(name: &str, program: &mut Program) -> Result<()> {
    let tracepoints = match name {
        "page_fault" => FAULT_TRACEPOINTS,
        _ => &[name],
    };
    if tracepoints.is_empty() {
        return Ok(());
    }
    let program: &mut RawTracePoint = program.try_into()?;
    program
        .load()
        .with_context(|| format!("the kernel refused the hook {name}"))?;
    for tracepoint in tracepoints {
        program
            .attach(tracepoint)
            .with_context(|| format!("this kernel has no tracepoint {tracepoint}"))?;
    }
    Ok(())
}

fn attach(ebpf: &mut Ebpf) -> Result<()> {
    let cpus = online_cpus().map_err(|(what, error)| anyhow!("{what}: {error}"))?;
    // The kernel's verifier takes its time over each hook, but looks at several at once.
    thread::scope(|scope| {
        let hooks: Vec<_> = ebpf
            .programs_mut()
            .filter(|(name, _)| ![FIND_DIRECT_MAP, ADOPT_PROCESS].contains(name))
            .filter(|(name, _)| !backend::HOOKS.contains(name))
            .map(|(name, program)| {
                scope.spawn(|| match program {
                    Program::PerfEvent(tick) => attach_tick(tick, &cpus),
                    tracepoint => attach_hook(name, tracepoint),
                })
            })
            .collect();
        hooks
            .into_iter()
            .try_for_each(|hook| hook.join().map_err(|_| anyhow!("loading a hook failed"))?)
    })?;
    begin_ticks(ebpf, &cpus)
}

/// Loads the hook of the timer, and starts one on each of these CPUs.
fn attach_tick(tick: &mut PerfEvent, cpus: &[u32]) -> Result<()> {
    tick.load().context("the kernel refused the hook tick")?;
    for &cpu in cpus {
        tick.attach(
            PerfEventConfig::Software(SoftwareEvent::CpuClock),
            PerfEventScope::AllProcessesOneCpu { cpu },
            SamplePolicy::Period(TICK_PERIOD),
            false,
        )
        .with_context(|| format!("can't open a timer on CPU {cpu}"))?;
    }
    Ok(())
}

/// Writes down that each of these CPUs has written nothing yet: the reader then waits for its first tick, as it doesn't
/// for a CPU that is switched off.
fn begin_ticks(ebpf: &mut Ebpf, cpus: &[u32]) -> Result<()> {
    let possible = nr_cpus().map_err(|(what, error)| anyhow!("{what}: {error}"))?;
    let mut begun = vec![0; possible];
    for &cpu in cpus {
        if let Some(time) = begun.get_mut(cpu as usize) {
            *time = now();
        }
    }
    let map = ebpf
        .map_mut("WRITTEN_UNTIL")
        .context("the object has no map WRITTEN_UNTIL")?;
    let mut ticks: PerCpuArray<_, u64> = PerCpuArray::try_from(map)?;
    ticks
        .set(0, PerCpuValues::try_from(begun)?, 0)
        .context("can't write the ticks")
}
