//! Tables whose columns fit a terminal: the least important are left out first, and the last one is cut.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// Between columns.
const GAP: usize = 2;
/// The last column may be cut to this.
const CUT_MIN: usize = 12;

/// One column of rows of `T`.
pub(super) struct Column<T> {
    title: &'static str,
    right: bool,
    /// 0: always shown; the highest is left out first.
    rank: u8,
    cell: fn(&T) -> Cell,
}

/// What stands in one place.
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(super) fn of(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), style: Style::new() }
    }

    pub(super) fn styled(text: impl Into<String>, style: Style) -> Cell {
        Cell { text: text.into(), style }
    }
}

impl<T> Column<T> {
    /// Words.
    pub(super) fn left(title: &'static str, rank: u8, cell: fn(&T) -> Cell) -> Column<T> {
        Column { title, right: false, rank, cell }
    }

    /// Numbers.
    pub(super) fn right(title: &'static str, rank: u8, cell: fn(&T) -> Cell) -> Column<T> {
        Column { title, right: true, rank, cell }
    }
}

/// The lines, a title above; none without rows.
pub(super) fn table<T>(columns: &[Column<T>], rows: &[&T], width: usize) -> Vec<Line<'static>> {
    if rows.is_empty() {
        return Vec::new();
    }
    let cells: Vec<Vec<Cell>> =
        rows.iter().map(|row| columns.iter().map(|column| (column.cell)(row)).collect()).collect();
    let mut widths: Vec<usize> = (columns.iter().enumerate())
        .map(|(at, column)| {
            let own = cells.iter().filter_map(|row| row.get(at)).map(|cell| cell.text.chars().count());
            own.max().unwrap_or(0).max(column.title.len())
        })
        .collect();
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    // A column of words at the end needs no more room than a few of them.
    let needed = |kept: &[usize], widths: &[usize]| -> usize {
        let last = kept.last().copied();
        let of = |at: &usize| {
            let whole = widths.get(*at).copied().unwrap_or(0);
            let may_be_cut = Some(*at) == last && columns.get(*at).is_some_and(|column| !column.right);
            if may_be_cut { whole.min(CUT_MIN) } else { whole }
        };
        kept.iter().map(of).sum::<usize>() + GAP * kept.len().saturating_sub(1)
    };
    while needed(&kept, &widths) > width {
        let rank = |at: &usize| columns.get(*at).map_or(0, |column| column.rank);
        match kept.iter().copied().max_by_key(rank).filter(|at| rank(at) > 0) {
            Some(least) => kept.retain(|at| *at != least),
            None => break,
        }
    }
    // What is too wide all the same is taken from the widest column of words.
    let total = |widths: &[usize]| -> usize {
        kept.iter().filter_map(|at| widths.get(*at)).sum::<usize>() + GAP * kept.len().saturating_sub(1)
    };
    while total(&widths) > width {
        let is_words = |at: &&usize| columns.get(**at).is_some_and(|column| !column.right);
        let widest = kept.iter().filter(is_words).max_by_key(|at| widths.get(**at)).copied();
        match widest.and_then(|at| widths.get_mut(at)).filter(|width| **width > 4) {
            Some(width) => *width -= 1,
            None => break,
        }
    }
    let title_style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);
    let titles: Vec<Cell> = columns.iter().map(|column| Cell::styled(column.title, title_style)).collect();
    std::iter::once(&titles).chain(&cells).map(|row| line(columns, row, &kept, &widths)).collect()
}

fn line<T>(columns: &[Column<T>], row: &[Cell], kept: &[usize], widths: &[usize]) -> Line<'static> {
    let mut spans = Vec::new();
    for (place, at) in kept.iter().enumerate() {
        let (Some(cell), Some(column), Some(width)) = (row.get(*at), columns.get(*at), widths.get(*at))
        else {
            continue;
        };
        let text = cut(&cell.text, *width);
        let text = if column.right { format!("{text:>width$}") } else { format!("{text:<width$}") };
        if place > 0 {
            spans.push(Span::raw(" ".repeat(GAP)));
        }
        spans.push(Span::styled(text, cell.style));
    }
    Line::from(spans)
}

/// At most so many characters; what is cut ends with a sign of it.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(width: usize) -> Vec<String> {
        let columns = [
            Column::left("NAME", 0, |row: &(&str, u32)| Cell::of(row.0)),
            Column::right("N", 0, |row| Cell::of(row.1.to_string())),
            Column::right("SQUARE", 2, |row| Cell::of((row.1 * row.1).to_string())),
            Column::left("WHY", 1, |_| Cell::of("for a reason that is long")),
        ];
        table(&columns, &[&("one", 1), &("a long name", 12)], width).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn columns_are_left_out_by_rank_and_words_are_cut() {
        assert_eq!(shown(60)[0].trim_end(), "NAME          N  SQUARE  WHY");
        assert_eq!(shown(60)[2], "a long name  12     144  for a reason that is long");
        assert_eq!(shown(30)[2], "a long name  12  for a reason…");
        assert_eq!(shown(16), ["NAME          N", "one           1", "a long name  12"]);
        assert_eq!(shown(10)[2], "a lon…  12");
        assert!(table(&[Column::left("A", 0, |(): &()| Cell::of("a"))], &[], 9).is_empty());
    }
}
