//! memtrace shows what the kernel really does with a program's memory and tasks, as it happens.
//!
//! One way through: a hook ([`memtrace_ebpf`]) writes a record, [`probe`] reads it, [`trace`] puts it in order and
//! makes an event of it, [`output`] writes that. [`run`], [`attach`] and [`lab`] begin a trace, [`follow`] keeps
//! it going, and [`session`] is the way from one end to the other. [`doctor`] tries what all of them need.

mod attach;
mod cli;
mod doctor;
mod error;
mod follow;
mod kernel;
mod lab;
mod memory;
mod output;
mod probe;
mod run;
mod select;
mod session;
mod target;
mod trace;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::Cli::read() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let result = match cli.command {
        cli::Command::Run(args) => run::run(&args),
        cli::Command::Attach(args) => attach::attach(&args),
        cli::Command::Lab(args) => lab::lab(&args),
        cli::Command::Doctor(args) => doctor::doctor(&args),
        cli::Command::DoctorSubject => doctor::subject(),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            use std::io::Write as _;
            let status = error
                .downcast_ref::<target::SpawnError>()
                .map_or(target::status::FAILED, target::SpawnError::exit_status);
            // Where not even this can be written there is no one left to tell.
            let _ = writeln!(std::io::stderr(), "memtrace: {}", error::in_a_line(&error));
            ExitCode::from(status)
        }
    }
}
