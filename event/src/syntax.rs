//! The grammars of names and texts, as predicates.
//!
//! One pass each, no allocation, no opinion on which attribute must follow
//! which. A text that passes `is_plain_text` has no control character, so the
//! others need not look for any beyond their own grammar.

/// The longest attribute name in bytes. The specification asks for 20 at most
/// (spec 1.0.2, "Naming Conventions", SHOULD); longer ones are met in the wild.
pub(crate) const MAX_ATTRIBUTE_NAME_BYTES: usize = 64;

/// The longest region name in bytes: a DNS label.
const MAX_REGION_NAME_BYTES: usize = 63;

/// Whether `name` names an attribute: `[a-z0-9]`, 1 to 64 of them (spec 1.0.2,
/// "Naming Conventions").
pub(crate) fn is_attribute_name(name: &str) -> bool {
    (1..=MAX_ATTRIBUTE_NAME_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Whether `name` names a region: `[a-z0-9-]{1,63}`.
pub fn is_region_name(name: &str) -> bool {
    (1..=MAX_REGION_NAME_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Whether a text is a CloudEvents `String`: none of U+0000 to U+001F, U+007F to
/// U+009F and the Unicode noncharacters (spec 1.0.2, "Type System").
pub(crate) fn is_plain_text(text: &str) -> bool {
    let printable = |byte: u8| (0x20..0x7F).contains(&byte);
    // Without a branch for each byte, so that it compiles to vector code.
    if text.bytes().fold(true, |all, byte| all & printable(byte)) {
        return true;
    }
    text.chars().all(|character| {
        let code = u32::from(character);
        !character.is_control() && !(0xFDD0..=0xFDEF).contains(&code) && code & 0xFFFE != 0xFFFE
    })
}

/// Whether a text could be a URI reference (RFC 3986, section 4.1): only
/// characters that one may have, every `%` before two hexadecimal digits, at most
/// one `#`, brackets only around a host, and no colon in a first segment that is no
/// scheme. Characters beyond ASCII must be percent-encoded.
pub(crate) fn is_uri_reference(text: &str) -> bool {
    let first = text.split(['/', '?', '#']).next().unwrap_or_default();
    let first_segment_is_sound = match first.split_once(':') {
        Some((scheme, _)) => is_scheme(scheme),
        None => true,
    };
    first_segment_is_sound && has_uri_characters(text)
}

/// Whether a text could be an absolute URI: a URI reference with a scheme (RFC
/// 3986, section 3).
pub(crate) fn is_uri(text: &str) -> bool {
    match text.split_once(':') {
        Some((scheme, rest)) => is_scheme(scheme) && !rest.is_empty() && has_uri_characters(rest),
        None => false,
    }
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn has_uri_characters(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut in_fragment = false;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).unwrap_or_default();
                if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return false;
                }
                at += 2;
            }
            b'#' if in_fragment => return false,
            b'#' => in_fragment = true,
            b'[' | b']' if !is_host_bracket(bytes, at) => return false,
            _ if !is_uri_byte(byte) => return false,
            _ => {}
        }
        at += 1;
    }
    true
}

/// Brackets stand around an IP literal alone: in the authority, which follows
/// `//` and ends at the next `/`, `?` or `#` (RFC 3986, section 3.2.2).
fn is_host_bracket(bytes: &[u8], at: usize) -> bool {
    let before = &bytes[..at];
    let Some(slashes) = before.windows(2).position(|pair| pair == b"//") else {
        return false;
    };
    !before[slashes + 2..]
        .iter()
        .any(|byte| matches!(byte, b'/' | b'?' | b'#'))
}

/// Unreserved, reserved and `%` of RFC 3986, section 2.
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

/// Whether a text could be a media type (RFC 2045, section 5.1): `type/subtype`,
/// with parameters after a semicolon.
pub(crate) fn is_media_type(text: &str) -> bool {
    let (essence, parameters) = match text.split_once(';') {
        Some((essence, parameters)) => (essence, Some(parameters)),
        None => (text, None),
    };
    let Some((main, sub)) = essence.trim_end_matches(' ').split_once('/') else {
        return false;
    };
    is_token(main) && is_token(sub) && parameters.is_none_or(has_parameters)
}

/// Every parameter has a name; a quoted value may hold anything, also `;`.
fn has_parameters(text: &str) -> bool {
    text.contains('"')
        || text
            .split(';')
            .map(|parameter| parameter.trim_matches(' '))
            .all(|parameter| {
                parameter.is_empty()
                    || parameter
                        .split_once('=')
                        .is_some_and(|(name, value)| is_token(name) && is_token(value))
            })
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Whether a media type says JSON (spec 1.0.2, JSON format, section 3.1): subtype
/// `json` or suffix `+json`, case-insensitively.
pub(crate) fn is_json_media_type(text: &str) -> bool {
    let Some((_, sub)) = essence(text).split_once('/') else {
        return false;
    };
    ends_with_ignoring_case(sub, "+json") || sub.eq_ignore_ascii_case("json")
}

/// Whether a media type says text.
pub(crate) fn is_text_media_type(text: &str) -> bool {
    starts_with_ignoring_case(text, "text/")
}

/// Whether a media type is `expected`, whatever its parameters and case.
pub(crate) fn is_media_type_of(text: &str, expected: &str) -> bool {
    essence(text).eq_ignore_ascii_case(expected)
}

/// Whether a text begins with an ASCII prefix, whatever its case.
pub(crate) fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn ends_with_ignoring_case(text: &str, suffix: &str) -> bool {
    text.len()
        .checked_sub(suffix.len())
        .and_then(|at| text.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

/// A media type without its parameters.
pub(crate) fn essence(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(predicate: fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(predicate(text), "{text:?} is refused");
        }
        for text in bad {
            assert!(!predicate(text), "{text:?} is taken");
        }
    }

    #[test]
    fn attribute_and_region_names() {
        let longest = "a".repeat(64);
        let too_long = "a".repeat(65);
        check(
            is_attribute_name,
            &["a", "1", "partitionkey", &longest],
            &["", "Tenant", "tenant_id", "tenant-id", "ténant", &too_long],
        );
        check(
            is_region_name,
            &["us-east", "1", &longest[1..]],
            &["", "US", "us_east", "a,b", &longest],
        );
    }

    #[test]
    fn plain_text_has_no_controls_and_no_noncharacters() {
        check(
            is_plain_text,
            &["", "a b~", "é漢🦀\u{A0}\u{FFFD}"],
            &[
                "\0",
                "a\nb",
                "\u{7F}",
                "\u{80}",
                "é\u{9F}",
                "\u{FDD0}",
                "\u{FDEF}",
                "\u{FFFE}",
                "\u{1FFFF}",
                "\u{10FFFE}",
            ],
        );
    }

    #[test]
    fn uri_references() {
        check(
            is_uri_reference,
            &[
                "/a",
                "a",
                "https://user@host:1/p?q=1#f",
                "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
                "mailto:cncf@lists.cncf.io",
                "//host/a",
                "http://[::1]:80/",
                "/a:b",
                "a%20b",
                "#f",
                "?q",
            ],
            &[
                "a b", "a\"b", "é", "a%2", "a%zz", "a#b#c", "1a:b", ":a", "/a[1]", "a\\b", "<a>", "{a}", "a|b", "a^b",
                "a`b", "a\nb",
            ],
        );
        check(
            is_uri,
            &["https://a/b", "urn:a", "type:x"],
            &["/a", "a", "a:", ":a", "type.googleapis.com/a", "http://a b"],
        );
    }

    #[test]
    fn media_types() {
        check(
            is_media_type,
            &[
                "application/json",
                "text/plain; charset=utf-8",
                "text/plain;charset=\"utf 8; x\"",
                "application/vnd.a+json",
                "a/b;",
            ],
            &["", "json", "a/", "/b", "a/b c", "a/b; charset", "a b/c", "a/b;=c"],
        );
        check(
            is_json_media_type,
            &["application/json", "Text/JSON; a=b", "a/b+JSON"],
            &["application/jsonx", "json", "a/xjson", "application/xml; a=/json"],
        );
    }
}
