//! `sctl exec`: the caller's streams and terminal, joined with those of a command in a container.

mod input;
mod terminal;

use clap::Args;
use secretd_proto::v1::ExecStart;
use secretd_proto::v1::exec_input::Input;
use secretd_proto::v1::exec_output::Output;
use tokio_stream::wrappers::ReceiverStream;

use super::Context;
use crate::failure::Failure;
use crate::output;
use crate::parse::environment;

#[derive(Debug, Args)]
#[command(override_usage = "sctl exec [OPTIONS] TASK COMMAND [ARG...]")]
pub(crate) struct Exec {
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// User of the command, as NAME|UID[:GROUP|GID]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    user: String,
    /// Environment variable, as NAME=VALUE, or NAME with the value that it has here
    #[arg(short, long, value_name = "VARIABLE")]
    env: Vec<String>,
    /// File of environment variables, one a line
    #[arg(long = "env-file", value_name = "FILE")]
    env_files: Vec<std::path::PathBuf>,
    /// Working directory of the command
    #[arg(short, long, value_name = "DIRECTORY", default_value = "", hide_default_value = true)]
    workdir: String,
    /// Task, as SERVICE.SLOT, an id, or a service with one running task; then the command and its arguments
    #[arg(value_names = ["TASK", "COMMAND", "ARG"], required = true, num_args = 2.., trailing_var_arg = true)]
    words: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Exec) -> Result<u8, Failure> {
    if args.tty && args.interactive && !terminal::is_terminal() {
        return Err(Failure::failed("the input device is not a TTY: leave out --tty"));
    }
    let mut control = context.control().await?;
    let (tty, interactive) = (args.tty, args.interactive);
    let (sender, inputs) = input::channel();
    input::send(&sender, Input::Start(args.into_start()?)).await;
    let mut outputs = control.exec(ReceiverStream::new(inputs)).await?.into_inner();
    // Raw only once the command runs, so that an interrupt still works while it cannot be reached.
    let raw = if tty && interactive { Some(terminal::Raw::enter()?) } else { None };
    let code = tokio::select! {
        code = receive(&mut outputs) => code,
        failure = input::forward(sender, interactive, tty) => Err(failure),
    };
    drop(raw);
    code
}

impl Exec {
    fn into_start(self) -> Result<ExecStart, Failure> {
        let env = environment::variables(&self.env_files, &self.env)?;
        let mut words = self.words.into_iter();
        Ok(ExecStart {
            reference: words.next().unwrap_or_default(),
            args: words.collect(),
            interactive: self.interactive,
            tty: self.tty,
            user: self.user,
            env,
            workdir: self.workdir,
            size: if self.tty { terminal::size() } else { None },
        })
    }
}

/// Writes what the command writes, until its exit code comes.
async fn receive(outputs: &mut tonic::Streaming<secretd_proto::v1::ExecOutput>) -> Result<u8, Failure> {
    while let Some(message) = outputs.message().await? {
        match message.output {
            Some(Output::Stdout(bytes)) => output::bytes(&bytes)?,
            Some(Output::Stderr(bytes)) => output::error_bytes(&bytes)?,
            Some(Output::ExitCode(code)) => return Ok(u8::try_from(code).unwrap_or(u8::MAX)),
            None => {}
        }
    }
    Err(Failure::failed("the command's exit code did not come: was its container removed?"))
}
