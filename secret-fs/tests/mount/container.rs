//! A process in a control group of its own: what runs in a task's container. It does one thing for each line that it
//! is told on its standard input.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use secretd_proto::fs::CgroupPaths;
use secretd_sys::frame;

/// The argument that makes the test binary such a process.
pub(crate) const ROLE: &str = "container-process";

/// The test's side: a process, and its control groups, both gone when dropped.
pub(crate) struct Container {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    groups: Vec<PathBuf>,
    pub(crate) cgroup: CgroupPaths,
}

impl Container {
    /// A process in control groups of its own, named by `name`.
    pub(crate) fn start(name: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg(ROLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let group = format!("secretd-test-{}-{name}", std::process::id());
        let groups: Vec<PathBuf> = ["", "unified", "pids"]
            .map(|hierarchy| PathBuf::from("/sys/fs/cgroup").join(hierarchy))
            .into_iter()
            .filter(|hierarchy| hierarchy.join("cgroup.procs").exists())
            .map(|hierarchy| hierarchy.join(&group))
            .collect();
        assert!(!groups.is_empty(), "these tests need control groups below /sys/fs/cgroup");
        for directory in &groups {
            fs::create_dir(directory).expect("these tests need writable control groups");
            fs::write(directory.join("cgroup.procs"), process.id().to_string()).unwrap();
        }
        let text = fs::read_to_string(format!("/proc/{}/cgroup", process.id())).unwrap();
        let lines = text.lines().filter(|line| line.ends_with(&group)).map(|line| {
            let mut parts = line.splitn(3, ':').skip(1).map(str::to_owned);
            (parts.next().unwrap(), parts.next().unwrap())
        });
        let cgroup = CgroupPaths { lines: lines.collect() };
        assert_eq!(cgroup.lines.len(), groups.len(), "{text}");
        let (input, output) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Self { process, input, output, groups, cgroup }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Tells it one thing and gives its answer: `ok ...` or `errno N`.
    pub(crate) fn tell(&mut self, line: &str) -> String {
        self.begin(line);
        self.answer()
    }

    /// Tells it one thing; [`Container::answer`] gives its answer later.
    pub(crate) fn begin(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// The answer to what it was told last.
    pub(crate) fn answer(&mut self) -> String {
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    /// Opens a file for reading; gives its number.
    pub(crate) fn open(&mut self, path: &str) -> Result<String, String> {
        let answer = self.tell(&format!("open {path}"));
        answer.strip_prefix("ok ").map(str::to_owned).ok_or(answer)
    }

    /// Reads an open file in one call.
    pub(crate) fn read(&mut self, file: &str, length: usize) -> Result<Vec<u8>, String> {
        let answer = self.tell(&format!("read {file} {length}"));
        match answer.strip_prefix("ok ") {
            Some(hex) => Ok(hex.as_bytes().chunks(2).map(hex_byte).collect()),
            None if answer == "ok" => Ok(Vec::new()),
            None => Err(answer),
        }
    }

    /// Opens, reads and closes.
    pub(crate) fn cat(&mut self, path: &str) -> Result<Vec<u8>, String> {
        let file = self.open(path)?;
        let bytes = self.read(&file, 1 << 20);
        self.tell(&format!("close {file}"));
        bytes
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for group in &self.groups {
            let _ = fs::remove_dir(group);
        }
    }
}

fn hex_byte(pair: &[u8]) -> u8 {
    u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()
}

/// The process itself.
pub(crate) fn run() {
    let mut inside = Inside::default();
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match inside.act(&words) {
            Ok(answer) => format!("ok {answer}"),
            Err(error) => format!("errno {}", error.raw_os_error().unwrap_or(0)),
        };
        println!("{}", answer.trim_end());
    }
}

#[derive(Default)]
struct Inside {
    files: HashMap<String, File>,
    watcher: Option<OwnedFd>,
}

impl Inside {
    fn act(&mut self, words: &[&str]) -> io::Result<String> {
        match *words {
            ["open", path] => Ok(self.keep(File::open(path)?)),
            ["open-write", path] => Ok(self.keep(OpenOptions::new().write(true).open(path)?)),
            ["create", path] => Ok(self.keep(File::create(path)?)),
            ["close", file] => Ok(self.files.remove(file).map(drop).map_or("unknown", |()| "closed").to_owned()),
            ["read", file, length] => read(&self.files[file], length),
            ["read-in-thread", file, length] => {
                let file = self.files[file].try_clone()?;
                let length = length.to_owned();
                std::thread::Builder::new().spawn(move || read(&file, &length))?.join().unwrap()
            }
            ["stat", path] => {
                let stat = fs::metadata(path)?;
                Ok(format!("{:o} {} {} {} {}", stat.mode(), stat.uid(), stat.gid(), stat.size(), stat.nlink()))
            }
            ["list", path] => {
                let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().into_string().unwrap()));
                let mut names = names.collect::<io::Result<Vec<_>>>()?;
                names.sort();
                Ok(names.join(" "))
            }
            ["link", path] => Ok(fs::read_link(path)?.to_str().unwrap().to_owned()),
            ["remove", path] => fs::remove_file(path).map(|()| String::new()),
            ["pass", file, socket] => {
                let socket = UnixStream::connect(socket)?;
                frame::send(&socket, &(), &[self.files[file].as_fd()]).map_err(io::Error::other)?;
                Ok(String::new())
            }
            ["watch", path] => self.watch(path),
            ["events", last] => self.events(last),
            ["hammer", path, last] => hammer(path, last),
            ["time", path, count] => time(path, count),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn keep(&mut self, file: File) -> String {
        let name = std::os::fd::AsRawFd::as_raw_fd(&file).to_string();
        self.files.insert(name.clone(), file);
        name
    }

    fn watch(&mut self, path: &str) -> io::Result<String> {
        let watcher = match self.watcher.take() {
            Some(watcher) => watcher,
            None => inotify::init(inotify::CreateFlags::CLOEXEC)?,
        };
        let wanted = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::MOVED_TO;
        let added = inotify::add_watch(&watcher, path, wanted);
        self.watcher = Some(watcher);
        Ok(added?.to_string())
    }

    /// The events up to the first of the kind `last`, or until none came for five seconds.
    fn events(&mut self, last: &str) -> io::Result<String> {
        let watcher = self.watcher.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        let mut seen: Vec<String> = Vec::new();
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(watcher, &mut space);
        while !seen.iter().any(|event| event.starts_with(last)) {
            let mut ready = [PollFd::new(watcher, PollFlags::IN)];
            if reader.is_buffer_empty() && poll(&mut ready, Some(&Timespec { tv_sec: 5, tv_nsec: 0 }))? == 0 {
                break;
            }
            let event = reader.next()?;
            let flags = event.events();
            for (flag, name) in [
                (inotify::ReadFlags::MODIFY, "MODIFY"),
                (inotify::ReadFlags::CLOSE_WRITE, "CLOSE_WRITE"),
                (inotify::ReadFlags::MOVED_TO, "MOVED_TO"),
            ] {
                if flags.contains(flag) {
                    let file = event.file_name().map_or("-", |name| name.to_str().unwrap());
                    seen.push(format!("{name}:{file}"));
                }
            }
        }
        Ok(seen.join(" "))
    }
}

fn read(file: &File, length: &str) -> io::Result<String> {
    let mut bytes = vec![0; length.parse().unwrap()];
    let count = file.read_at(&mut bytes, 0)?;
    Ok(bytes[..count].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Opens and reads a file of equal bytes again and again, until these are `last`.
fn hammer(path: &str, last: &str) -> io::Result<String> {
    let last: u8 = last.parse().unwrap();
    loop {
        let bytes = fs::read(path)?;
        let first = *bytes.first().ok_or(io::ErrorKind::UnexpectedEof)?;
        if bytes.len() != 10_000 + usize::from(first) || bytes.iter().any(|&byte| byte != first) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if first == last {
            return Ok(String::new());
        }
    }
}

/// Microseconds of open, read and close: the middle one and the 99th of 100.
fn time(path: &str, count: &str) -> io::Result<String> {
    let mut times = Vec::new();
    let mut bytes = vec![0; 1 << 20];
    for _ in 0..count.parse().unwrap() {
        let start = std::time::Instant::now();
        let file = File::open(path)?;
        file.read_at(&mut bytes, 0)?;
        drop(file);
        times.push(start.elapsed().as_micros());
    }
    times.sort_unstable();
    Ok(format!("p50 {} us, p99 {} us", times[times.len() / 2], times[times.len() * 99 / 100]))
}
