//! Wrong command lines, and asked-for help.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::failure::Failure;
use crate::output;

/// Prints help and versions as they are, and an error as one line.
pub(crate) fn report(error: &clap::Error, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match output::bytes(error.render().to_string().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                output::failure(&failure, false);
                ExitCode::from(failure.exit)
            }
        };
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = output::error_bytes(error.render().to_string().as_bytes());
        return ExitCode::from(crate::failure::USAGE);
    }
    output::failure(&failure(error), asks_for_json(arguments));
    ExitCode::from(crate::failure::USAGE)
}

/// The line of an error: clap's message without its usage text.
fn failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let paragraphs = text.split("\n\n").take_while(|paragraph| !paragraph.trim_start().starts_with("Usage:"));
    let said = paragraphs
        .filter(|paragraph| !["tip:", "For more"].iter().any(|hint| paragraph.trim_start().starts_with(hint)));
    let message = said.collect::<Vec<_>>().join("\n");
    let message = message.strip_prefix("error: ").unwrap_or(&message).trim_end();
    Failure::usage(format!("{message}; see --help"))
}

/// What `--format` says, in a command line that cannot be parsed.
fn asks_for_json(arguments: impl Iterator<Item = OsString>) -> bool {
    let arguments: Vec<OsString> = arguments.collect();
    arguments.iter().any(|argument| argument == "--format=json")
        || arguments.windows(2).any(|pair| matches!(pair, [flag, value] if flag == "--format" && value == "json"))
}
