//! What a plain YAML scalar means, after the core schema of YAML 1.2 (section 10.3.2): null, booleans, numbers, text.
//! Ranges and types that a reader wants are left to `Node`.
//!
//! What holds: `no`, `on` and `yes` are text, as YAML 1.2 has it, so that a region may be called `no`.

/// A plain scalar, resolved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(&'a str),
}

pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Resolves a plain scalar.
pub(super) fn resolve(text: &str) -> Scalar<'_> {
    if is_null(text) {
        return Scalar::Null;
    }
    match text {
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        _ => {}
    }
    if let Some(number) = integer(text) {
        return Scalar::Integer(number);
    }
    match float(text) {
        Some(number) => Scalar::Float(number),
        None => Scalar::Text(text),
    }
}

/// Decimal with a sign, `0x` and `0o` without. An integer past 128 bits is left to [`float`].
fn integer(text: &str) -> Option<i128> {
    let all_digits = |digits: &str, radix| !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    if let Some(digits) = text.strip_prefix("0x") {
        return all_digits(digits, 16).then(|| i128::from_str_radix(digits, 16).ok())?;
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return all_digits(digits, 8).then(|| i128::from_str_radix(digits, 8).ok())?;
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    all_digits(digits, 10).then(|| text.parse().ok())?
}

fn float(text: &str) -> Option<f64> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = match unsigned {
        ".inf" | ".Inf" | ".INF" => f64::INFINITY,
        ".nan" | ".NaN" | ".NAN" if unsigned.len() == text.len() => f64::NAN,
        // Rust's parser also takes `inf`, `nan` and `infinity`, which YAML holds for text.
        _ if unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
            && unsigned.contains(|digit: char| digit.is_ascii_digit()) =>
        {
            unsigned.parse().ok()?
        }
        _ => return None,
    };
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_resolve_by_the_core_schema() {
        let cases = [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("true", Scalar::Bool(true)),
            ("FALSE", Scalar::Bool(false)),
            ("yes", Scalar::Text("yes")),
            ("no", Scalar::Text("no")),
            ("0", Scalar::Integer(0)),
            ("-12", Scalar::Integer(-12)),
            ("+12", Scalar::Integer(12)),
            ("0x1F", Scalar::Integer(31)),
            ("0o17", Scalar::Integer(15)),
            ("0x-1", Scalar::Text("0x-1")),
            ("0x", Scalar::Text("0x")),
            ("1_000", Scalar::Text("1_000")),
            ("1.5", Scalar::Float(1.5)),
            ("-.5e1", Scalar::Float(-5.0)),
            ("1.", Scalar::Float(1.0)),
            ("-.inf", Scalar::Float(f64::NEG_INFINITY)),
            ("inf", Scalar::Text("inf")),
            ("nan", Scalar::Text("nan")),
            ("e5", Scalar::Text("e5")),
            ("-", Scalar::Text("-")),
            (".", Scalar::Text(".")),
            ("1.2.3", Scalar::Text("1.2.3")),
            ("127.0.0.1:7400", Scalar::Text("127.0.0.1:7400")),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve(text), expected, "{text:?}");
        }
        assert!(matches!(resolve(".nan"), Scalar::Float(number) if number.is_nan()));
    }
}
