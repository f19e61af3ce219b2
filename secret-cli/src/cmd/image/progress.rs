//! How a pull or a load goes: a line for each layer on a terminal, plain lines elsewhere.

use std::collections::HashMap;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use secretd_proto::v1::{Image, ImageProgress};
use tonic::Streaming;

use crate::failure::Failure;
use crate::output;

/// How much a person wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Quiet,
    Lines,
    Bars,
}

impl Detail {
    /// For `--quiet` and the kind of standard error.
    pub(super) fn new(quiet: bool) -> Self {
        match (quiet, output::is_watched()) {
            (true, _) => Self::Quiet,
            (false, false) => Self::Lines,
            (false, true) => Self::Bars,
        }
    }
}

/// Follows a stream to its end: the images that it brought.
pub(super) async fn follow(mut stream: Streaming<ImageProgress>, detail: Detail) -> Result<Vec<Image>, Failure> {
    let mut layers = Layers { detail, all: MultiProgress::new(), bars: HashMap::new(), last: HashMap::new() };
    let mut images = Vec::new();
    let outcome = loop {
        match stream.message().await {
            Ok(Some(message)) => {
                layers.show(&message);
                images.extend(message.image);
            }
            Ok(None) => break Ok(()),
            Err(status) => break Err(Failure::from(status)),
        }
    };
    for bar in layers.bars.values().filter(|bar| !bar.is_finished()) {
        bar.abandon();
    }
    outcome.map(|()| images)
}

struct Layers {
    detail: Detail,
    all: MultiProgress,
    bars: HashMap<String, ProgressBar>,
    last: HashMap<String, String>,
}

impl Layers {
    fn show(&mut self, message: &ImageProgress) {
        let ImageProgress { id, status, current, total, .. } = message;
        if self.detail == Detail::Quiet || status.is_empty() {
            return;
        }
        let line = if id.is_empty() { status.clone() } else { format!("{id}: {status}") };
        if self.detail == Detail::Lines || id.is_empty() {
            // Counts alone are no news.
            if self.last.insert(id.clone(), status.clone()).as_ref() != Some(status) {
                // Between bars it must not be written past them; a line of progress that is lost is no failure.
                if self.detail != Detail::Bars || self.all.println(&line).is_err() {
                    output::note(&line);
                }
            }
            return;
        }
        let bar = self.bars.entry(id.clone()).or_insert_with(|| self.all.add(ProgressBar::new(0)));
        bar.set_style(style(*total));
        bar.set_length(*total);
        bar.set_position(*current);
        bar.set_message(line);
        if ["complete", "exists"].iter().any(|end| status.ends_with(end)) {
            bar.finish();
        }
    }
}

fn style(total: u64) -> ProgressStyle {
    let template = if total > 0 { "{msg} {wide_bar} {bytes}/{total_bytes}" } else { "{msg}" };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
