//! memtrace shows what the kernel really does with a program's memory and tasks, as it happens.
//!
//! One way through: a hook ([`memtrace_ebpf`]) writes a record, [`probe`] reads it, [`trace`] puts it in order and
//! makes an event of it, [`output`] writes that. [`run`], [`attach`] and [`lab`] begin a trace, [`trace_loop`] keeps
//! it going, and [`session`] is the way from one end to the other. [`doctor`] tries what all of them need.

mod attach;
mod cli;
mod doctor;
mod error;
mod filter;
mod kernel;
mod lab;
mod memory;
mod output;
mod outputs;
mod pace;
mod probe;
mod run;
mod session;
mod size;
mod source;
mod target;
mod trace;
mod trace_loop;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::Cli::read() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    match command(cli.command) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let status = error
                .downcast_ref::<target::SpawnError>()
                .map_or(target::status::FAILED, target::SpawnError::exit_status);
            error::say(&error);
            ExitCode::from(status)
        }
    }
}

fn command(command: cli::Command) -> anyhow::Result<u8> {
    target::outlive_limits()?;
    match command {
        cli::Command::Run(args) => run::run(&args),
        cli::Command::Attach(args) => attach::attach(&args),
        cli::Command::Lab(args) => lab::lab(&args),
        cli::Command::Doctor(args) => doctor::doctor(&args),
        cli::Command::DoctorSubject => doctor::subject(),
        cli::Command::StopGuard { prog } => target::guard(prog),
    }
}
