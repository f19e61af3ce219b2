//! What tests run in containers: what a shell cannot do.
//!
//! `probe watch FILE`: prints `watching`, then each inotify event of the file and of its directory, a line each, with what
//! the file then holds and the time (CLOCK_MONOTONIC, nanoseconds).
//! `probe hold FILE`: prints what it reads, then for each line of standard input reads the same open file again.
//! `probe opens FILE COUNT`: opens, reads and closes COUNT times; prints nanoseconds of each.
//! `probe stats FILE COUNT`: the same for stat(2).

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::time::{ClockId, clock_gettime};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["watch", file] => watch(Path::new(file)),
        ["hold", file] => hold(Path::new(file)),
        ["opens", file, count] => measure(count.parse()?, || {
            let mut buffer = [0; 4096];
            File::open(file)?.read(&mut buffer)
        }),
        ["stats", file, count] => measure(count.parse()?, || std::fs::metadata(file)),
        _ => Err("usage: probe watch|hold FILE, probe opens|stats FILE COUNT".into()),
    }
}

fn say(line: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{line}")?;
    output.flush()
}

fn watch(file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let inotify = Inotify::init(InitFlags::empty())?;
    let flags = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE_SELF;
    let of_file = inotify.add_watch(file, flags)?;
    inotify.add_watch(file.parent().ok_or("no directory")?, flags)?;
    say("watching")?;
    loop {
        for event in inotify.read_events()? {
            let what = if event.wd == of_file { "file" } else { "directory" };
            let name = event.name.unwrap_or_default();
            let content = std::fs::read_to_string(file);
            let at = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos();
            say(&format!("{what} {:?} {} {content:?} {at}", event.mask, name.to_string_lossy()))?;
        }
    }
}

fn hold(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let file = File::open(path)?;
    let show = || {
        let mut buffer = vec![0; 1 << 20];
        match file.read_at(&mut buffer, 0) {
            Ok(length) => say(&format!("read {}", String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()))),
            Err(error) => say(&format!("error {}", error.raw_os_error().unwrap_or_default())),
        }
    };
    show()?;
    for line in std::io::stdin().lock().lines() {
        line?;
        show()?;
    }
    Ok(())
}

fn measure<T>(count: u32, mut step: impl FnMut() -> std::io::Result<T>) -> Result<(), Box<dyn std::error::Error>> {
    let mut times = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let start = Instant::now();
        step()?;
        times.push(start.elapsed().as_nanos());
    }
    for time in times {
        say(&time.to_string())?;
    }
    Ok(())
}
