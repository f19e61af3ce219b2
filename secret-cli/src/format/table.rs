//! Columns that line up.

/// Blanks between columns, as in Docker.
const GAP: usize = 3;

/// Rows whose cells are separated by tabs, as text with aligned columns.
pub(super) fn align(rows: &[String]) -> String {
    let rows: Vec<Vec<&str>> = rows.iter().map(|row| row.split('\t').collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() > column + 1).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (idx, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if idx + 1 < row.len() {
                let filled = cell.chars().count();
                line.push_str(&" ".repeat(widths.get(idx).copied().unwrap_or(0).saturating_sub(filled) + GAP));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = ["ID\tNAME\tX", "abcdef\ta\t1", "b\t\u{fc}bc\t"].map(str::to_owned);

        assert_eq!(align(&rows), "ID       NAME   X\nabcdef   a      1\nb        \u{fc}bc\n");
    }
}
