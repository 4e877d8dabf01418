//! Loading the hooks into the kernel and attaching them.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{
    Btf, Ebpf, EbpfLoader, Endianness, VerifierLogLevel,
    maps::{Array, HashMap, MapData, PerCpuArray, Queue, RingBuf},
};
use aya_log::EbpfLogger;
use log::LevelFilter;
use memtrace_ebpf::{
    arch::{FAULT_TRACEPOINTS, NAME},
    control::{Config, DirectMap},
    layout::Layout,
    record::ABI,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{
    backend::{self, Backend, Refused},
    direct_map::{self, FIND_DIRECT_MAP},
    ends::Ends,
    fault_log::{FaultLog, LogSize},
    hooks::{attach, tracepoint},
    kfunc::Kfuncs,
    live::Live,
    log::ToStderr,
    missed::Missed,
    object::{BY_HELPERS, DIRECT},
    read::{Reader, Ring},
    threads::Threads,
    timer::Timers,
};
use crate::{
    kernel::{
        again::again,
        fentry, helpers, layout,
        preemption::{self, Preemption},
        require::{release, require},
        zero_page::Sample,
    },
    source::Metadata,
};

/// Bytes of the ring buffer: room for some 400,000 faults, should the reader not get a CPU for a while. memtrace's own memory
/// counts them twice, as the kernel maps the buffer twice in a row (`ringbuf_map_mmap_kern` in `kernel/bpf/ringbuf.c`).
const RING_BYTES: u32 = 32 << 20;
/// The same where no fault is sent.
const SUMMARY_RING_BYTES: u32 = 8 << 20;
/// Who is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traced {
    /// A program from its birth; with `follow` its descendants, too.
    Started { follow: bool },
    /// Processes that have run before, and what they start.
    Running,
    /// Each program that memtrace starts, with its descendants: those of the lab. The hooks tell more than else.
    Experiments,
}

/// What the hooks are asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Who is traced.
    pub traced: Traced,
    /// Whether faults are counted in the kernel and not sent.
    pub summary: bool,
    /// Whether the hooks' own diagnostics are wanted.
    pub verbose: bool,
    /// Bytes of the ring buffer, a power of two; what serves, if nobody says.
    pub buffer: Option<u32>,
    /// A BTF file of the running kernel, in place of what that shows itself.
    pub btf: Option<&'a Path>,
    /// How page faults are observed; what the kernel grants, if nobody says.
    pub backend: Option<Backend>,
}

impl Options<'_> {
    pub(super) fn ring_bytes(&self) -> u32 {
        self.buffer.unwrap_or(if self.summary {
            SUMMARY_RING_BYTES
        } else {
            RING_BYTES
        })
    }
}

/// The hooks, loaded and attached. The next process that memtrace forks is traced from its birth, and those after it with
/// [`Traced::Experiments`]. They are gone from
/// the kernel when this is dropped, or when memtrace ends in any way.
pub struct Probe {
    pub(super) ebpf: Ebpf,
    timers: Timers,
    log: Option<EbpfLogger<ToStderr>>,
    /// How page faults are observed.
    pub backend: Backend,
    /// The zero page's frame.
    zero_pfn: u64,
    /// Bytes of the ring buffer.
    ring_bytes: u32,
    /// How large the logs of faults are.
    logs: LogSize,
    /// Whether the hooks count the faults.
    summary: bool,
}

impl Probe {
    /// Loads and attaches all hooks.
    ///
    /// # Errors
    /// The kernel lacks something or refuses; the message says what.
    pub fn attach(options: Options<'_>) -> Result<Self> {
        require()?;
        let attached = Self::try_to_attach(options);
        match &attached {
            // A kernel may load a hook on a function, and then not attach it.
            Err(error)
                if error.is::<Refused>()
                    && options.backend.is_none()
                    && !FAULT_TRACEPOINTS.is_empty() =>
            {
                Self::try_to_attach(Options {
                    backend: Some(Backend::Tracepoints),
                    ..options
                })
            }
            _ => attached,
        }
    }

    fn try_to_attach(options: Options<'_>) -> Result<Self> {
        let sample = Sample::new()?;
        let (mut ebpf, types, _) = prepare(options, &sample)?;
        ensure!(
            types.fentry || !FAULT_TRACEPOINTS.is_empty(),
            "no page fault can be observed: {NAME} has no tracepoints for them, and {} isn't hooked (fentry), as this kernel or its policy doesn't grant it, or by --backend",
            backend::FUNCTION
        );
        let log = options
            .verbose
            .then(|| EbpfLogger::init_with_logger(&mut ebpf, ToStderr))
            .transpose()
            .context("can't read the hooks' diagnostics")?;
        let timers = attach(&mut ebpf, types.preemption)?;
        let backend = match &types.btf {
            Some(btf) if types.fentry => {
                backend::attach(&mut ebpf, btf)?;
                Backend::Fentry
            }
            _ => Backend::Tracepoints,
        };
        Ok(Self {
            ebpf,
            timers,
            log,
            backend,
            zero_pfn: sample.zero,
            ring_bytes: options.ring_bytes(),
            logs: types.logs,
            summary: options.summary,
        })
    }

    /// The source of the records. Only the first call gives one.
    ///
    /// # Errors
    /// The object has no such maps, or they can't be mapped.
    pub fn live(&mut self) -> Result<Live> {
        let missed = Missed::of(&self.ebpf)?;
        let faults = FaultLog::new(&self.ebpf, self.logs)?;
        let mut take = |name| {
            self.ebpf
                .take_map(name)
                .with_context(|| format!("the object has no map {name}"))
        };
        let reader = Reader::new(
            Ring {
                records: RingBuf::try_from(take("RECORDS")?)
                    .context("can't map the ring buffer")?,
                room: u64::from(self.ring_bytes),
                awake: Array::try_from(take("READER_AWAKE")?)?,
                lost: PerCpuArray::try_from(take("LOST")?)?,
                written_until: PerCpuArray::try_from(take("WRITTEN_UNTIL")?)?,
            },
            Threads::new(
                HashMap::try_from(take("THREADS")?)?,
                Array::try_from(take("STATES")?)?,
            ),
            Ends::new(
                Queue::try_from(take("ENDS")?)?,
                PerCpuArray::try_from(take("FURTHER_ENDS")?)?,
            ),
            missed,
            faults,
        );
        let metadata = Metadata {
            abi: ABI,
            kernel: release(),
            backend: self.backend.name().into(),
            zero_pfn: self.zero_pfn,
            summary: self.summary,
        };
        let mut live = Live::new(reader, metadata);
        live.sleep(false)?;
        Ok(live)
    }

    /// Has the hooks look seldom at the thread that runs on each CPU, as long as nothing happens; or as often as else.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn idle(&mut self, is_idle: bool) -> Result<()> {
        self.timers.pace(&mut self.ebpf, is_idle)
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
}

/// What the kernel's type information says.
struct Types {
    layout: Layout,
    /// Whether the hooks on a function are wanted and granted.
    fentry: bool,
    /// The functions of the kernel's that the hooks call.
    kfuncs: Kfuncs,
    /// How large the logs of faults are: there are none beside hooks on a function.
    logs: LogSize,
    /// Whether the kernel may switch tasks in the middle of its own work.
    preemption: Preemption,
    /// Whether files of hugetlbfs number their pages one by one.
    one_by_one: bool,
    /// aya's form of it, where that needs it: for those hooks, and in place of what the kernel shows itself.
    btf: Option<Btf>,
}

fn types(options: Options<'_>) -> Result<Types> {
    let types = layout::read(options.btf)?;
    let kfuncs = Kfuncs::of(&types.btf);
    let function = types.btf.function(backend::FUNCTION);
    let preemption = preemption::detect();
    let fentry = backend::wants_fentry(options.backend, kfuncs.preempt.is_some(), preemption)
        && function.is_some_and(fentry::is_granted);
    ensure!(
        fentry || options.backend != Some(Backend::Fentry),
        "this kernel, or its policy, doesn't let {} be hooked (fentry): use --backend tracepoints",
        backend::FUNCTION
    );
    let btf = (fentry || options.btf.is_some())
        .then(|| Btf::parse(types.btf.bytes(), Endianness::default()))
        .transpose()?;
    Ok(Types {
        layout: types.numbers.layout,
        fentry,
        kfuncs,
        logs: LogSize::beside(options.ring_bytes(), fentry)?,
        preemption,
        one_by_one: types.btf.function(layout::ONE_BY_ONE).is_some(),
        btf,
    })
}

/// Where the running kernel has its memory: found as for any trace, without a hook that stays.
///
/// # Errors
/// Those of [`Probe::attach`] up to there.
pub fn locate_direct_map(btf: Option<&Path>) -> Result<DirectMap> {
    require()?;
    let options = Options {
        traced: Traced::Started { follow: true },
        summary: true,
        verbose: false,
        buffer: None,
        btf,
        backend: Some(Backend::Tracepoints),
    };
    Ok(prepare(options, &Sample::new()?)?.2)
}

/// Loads the object, and finds the direct map.
fn prepare(options: Options<'_>, sample: &Sample) -> Result<(Ebpf, Types, DirectMap)> {
    // Before anything else opens a file.
    let mut loader = bare_loader();
    let types = types(options)?;
    if options.btf.is_some() {
        loader.btf(types.btf.as_ref());
    }
    let task = task(options, &types, sample)?;
    let mut ebpf = load(loader, &types, &task, options)?;
    let found = find_direct_map(&mut ebpf, sample);
    let found = match options.btf {
        None => found,
        Some(file) => found.with_context(|| {
            let file = file.to_string_lossy();
            format!("is --btf {file:?} of exactly this kernel? With it")
        }),
    }?;
    Ok((ebpf, types, found))
}

fn task(options: Options<'_>, types: &Types, sample: &Sample) -> Result<Config> {
    Ok(Config {
        follow: u32::from(options.traced != Traced::Started { follow: false }),
        summary: u32::from(options.summary),
        zero_pfn: u32::try_from(sample.zero)
            .context("the zero page's frame number is beyond 16 TiB")?,
        // What was shared before the trace shows in how often a frame is mapped alone.
        read_frames: u32::from(options.traced == Traced::Running || !options.summary),
        detail: u32::from(options.traced == Traced::Experiments),
        handled: u32::from(types.fentry),
        typed: u32::from(helpers::are_typed()),
        word: types.kfuncs.cast.map_or(0, |(_, word)| word),
        log_slots: types.logs.slots,
        one_by_one: u32::from(types.one_by_one),
        backing: layout::backing_bits(&release()),
        common: options.ring_bytes() / 4 * 3,
        frames: sample.frames,
        file_frames: sample.file_frames,
    })
}

/// A loader without the kernel's types. aya reads and parses them when it makes one, which takes a third of the start, and nothing
/// here needs it; where it can't open their file it does without.
fn bare_loader<'a>() -> EbpfLoader<'a> {
    let files = getrlimit(Resource::RLIMIT_NOFILE);
    if let Ok((_, hard)) = files {
        // If that fails it only takes longer.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, 0, hard);
    }
    let loader = EbpfLoader::new();
    if let Ok((soft, hard)) = files {
        // Up to the hard limit everybody may.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    }
    loader
}

/// Loads the object's maps and relocates its programs.
fn load<'a>(
    mut loader: EbpfLoader<'a>,
    types: &'a Types,
    task: &'a Config,
    options: Options<'_>,
) -> Result<Ebpf> {
    let LogSize { cpus, slots } = types.logs;
    let object = types.kfuncs.cast.map_or(BY_HELPERS, |_| DIRECT);
    // aya tries a program that was refused again with room for a log. Without a level for that the kernel would refuse
    // this for itself (`bpf_verifier_log_attr_valid` in `kernel/bpf/log.c`), and its reason for the first be hidden.
    let (level, verifier): (&'static u8, _) = if options.verbose {
        (&(LevelFilter::Trace as u8), VerifierLogLevel::DEBUG)
    } else {
        (&(LevelFilter::Off as u8), VerifierLogLevel::STATS)
    };
    loader
        .verifier_log_level(verifier)
        .override_global("LAYOUT", bytemuck::bytes_of(&types.layout), true)
        .override_global("CONFIG", bytemuck::bytes_of(task), true)
        .override_global(aya_log::LEVEL, level, true)
        .map_max_entries("RECORDS", options.ring_bytes())
        .map_max_entries("FAULTS", (slots * cpus).max(1))
        .map_max_entries("LOG_ENDS", cpus)
        .load(&types.kfuncs.linked(object)?)
        .context("the kernel refused the BPF object's maps")
}

/// Has the hook for it find the direct map, then takes that hook away.
fn find_direct_map(ebpf: &mut Ebpf, sample: &Sample) -> Result<DirectMap> {
    let program = tracepoint(ebpf, FIND_DIRECT_MAP)?;
    again(|| program.load()).map_err(|error| {
        if helpers::read_memory() {
            anyhow!(error).context("the kernel refused the hook find_direct_map")
        } else {
            anyhow!("this kernel doesn't let eBPF read its memory: boot without lockdown=confidentiality")
        }
    })?;
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
