//! What a process shows as its arguments and environment: the shim's name the node's paths, and its fork has them too.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Shows `words` as this process's arguments, as far as there is room, and no environment. Both are memory of this
/// process, on its stack, and are written over there: another place for them would need CAP_SYS_RESOURCE.
pub(super) fn show(words: &[&str]) -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let areas = areas(&stat).ok_or_else(|| io::Error::other("/proc/self/stat tells no arguments"))?;
    let memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
    write(&memory, &areas.arguments, words.join("\0").as_bytes())?;
    write(&memory, &areas.environment, &[])
}

/// Fills an area with `bytes` and then NULs, at least one.
fn write(memory: &File, area: &Range<u64>, bytes: &[u8]) -> io::Result<()> {
    let mut filled = vec![0; usize::try_from(area.end.saturating_sub(area.start)).map_err(io::Error::other)?];
    let room = filled.len().saturating_sub(1);
    filled.iter_mut().take(room).zip(bytes).for_each(|(place, byte)| *place = *byte);
    memory.write_all_at(&filled, area.start)
}

/// Where a process has what it was started with.
#[derive(Debug, PartialEq, Eq)]
struct Areas {
    arguments: Range<u64>,
    environment: Range<u64>,
}

/// The areas that a line of proc_pid_stat(5) tells: its fields 48 to 51, of which the second may hold anything.
fn areas(stat: &str) -> Option<Areas> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut numbers = after_name.split_whitespace().skip(45).map_while(|field| field.parse().ok());
    let mut range = || Some(numbers.next()?..numbers.next()?);
    Some(Areas { arguments: range()?, environment: range()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_found_whatever_the_process_is_called() {
        let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();

        let found = areas(&format!("7 (a) S 1 (b)) S {}\n", fields.join(" ")));

        assert_eq!(found, Some(Areas { arguments: 48..49, environment: 50..51 }));
        assert_eq!(areas("7 (a) S 1 2"), None);
    }
}
