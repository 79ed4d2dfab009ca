//! Reading Rust source as text: where the code is, apart from comments and literals, and on which line. It knows just
//! enough of the language for that; it does not parse.

/// Where `pattern` stands in `code` without being the tail or the head of a longer identifier.
pub(crate) fn words(code: &str, pattern: &str) -> Vec<usize> {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let bare_end = pattern.ends_with(part_of_name);
    code.match_indices(pattern)
        .map(|(at, _)| at)
        .filter(|at| !pattern.starts_with(part_of_name) || !code[..*at].ends_with(part_of_name))
        .filter(|at| !bare_end || !code[at + pattern.len()..].starts_with(part_of_name))
        .collect()
}

pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The text with comments and the insides of string and character literals blanked, line for line, so that a rule may
/// be spoken of without being broken.
pub(crate) fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest, &out) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && is_char_literal(rest) {
            quoted(rest, '\'')
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        out.extend(rest[..skipped].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[skipped..];
    }
    out
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of a raw string that starts here: `r"..."`, `r#"..."#`, `br"..."`, but not the end of a name like `for`.
fn raw_string(rest: &str, before: &str) -> Option<usize> {
    if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let prefix = if rest.starts_with('r') {
        1
    } else {
        usize::from(rest.starts_with("br")) * 2
    };
    let hashes = rest.get(prefix..)?.chars().take_while(|c| *c == '#').count();
    let body = prefix + hashes + 1;
    if prefix == 0 || !rest[prefix + hashes..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    Some(rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len()))
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if !escaped && c == quote {
            return at + 1;
        }
        escaped = !escaped && c == '\\';
    }
    rest.len()
}

/// Tells `'x'` and `'\n'` from a lifetime.
fn is_char_literal(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_told_from_what_is_said_about_it() {
        let text = "a('\"', b'x', 'l: loop) /* s /* t */ u */ \"v\\\"w\" r#\"x\"y\"# br\"z\" for\"q\" // c\nd";
        let code = code_only(text);
        assert_eq!(
            code.split_whitespace().collect::<Vec<_>>(),
            ["a(", ",", "b", ",", "'l:", "loop)", "for", "d"]
        );
        assert_eq!(line_of(&code, code.find('d').expect("kept")), 2);
    }
}
