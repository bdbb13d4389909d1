//! Arguments that are mirrored into `Mcp-Param-*` headers (2026-07-28 basic/transports/streamable-http, Custom Headers
//! from Tool Parameters): reads a tool's `x-mcp-header` annotations, writes the headers, and validates them.

use crate::header::{self, BadHeader};
use crate::json::{self, Fields, Malformed};
use std::borrow::Cow;

const ANNOTATION: &str = "x-mcp-header";
const PREFIX: &str = "Mcp-Param-";

/// Largest integer that is exact in every JSON implementation, 2^53 − 1.
const SAFE_MAX: i64 = (1 << 53) - 1;

/// Why a tool definition must be left out of `tools/list`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAnnotation {
    /// A schema that can be read in two ways.
    #[error("the input schema cannot be read: {0}")]
    Malformed(#[from] Malformed),
    /// Not a string, empty, or not the token of RFC 9110, section 5.6.2.
    #[error("{ANNOTATION} at {path} is not a header name")]
    Name {
        /// Where, as `properties` keys joined by dots.
        path: String,
    },
    /// Two annotations with the same name; the case of letters makes no difference.
    #[error("{ANNOTATION} {name:?} appears twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// The annotated property is no string, integer or boolean.
    #[error("{ANNOTATION} at {path} is on a property whose type is not string, integer or boolean")]
    Type {
        /// Where, as `properties` keys joined by dots.
        path: String,
    },
    /// The annotation is not on a property that a chain of `properties` keys leads to.
    #[error("{ANNOTATION} below {keyword:?} is not on a chain of properties")]
    Unreachable {
        /// The keyword that leads off the chain; empty for the root of the schema.
        keyword: String,
    },
}

/// Why the headers of a call do not agree with its arguments. Values are never part of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{header} {reason}")]
pub struct Mismatch {
    /// Full name of the header.
    pub header: String,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with one header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The header is missing.
    #[error("is missing although the arguments have a value for it")]
    Missing,
    /// The header has nothing to mirror.
    #[error("is present although the arguments have no value for it")]
    Unexpected,
    /// The two values differ.
    #[error("does not match the value in the arguments")]
    Different,
    /// The header cannot be read.
    #[error("{0}")]
    Bad(BadHeader),
    /// No header can mirror the argument, so none can match it.
    #[error("cannot mirror the value in the arguments, which is no string, boolean or safe integer")]
    Unmirrorable,
    /// The arguments have the same key twice.
    #[error("mirrors an argument that appears twice")]
    Ambiguous,
}

/// The headers that one tool's arguments are mirrored into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParamHeaders {
    params: Vec<Param>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Param {
    /// Full name, as the tool spells it.
    header: String,
    header_lower: String,
    /// The `properties` keys from the root of the arguments.
    path: Vec<String>,
}

/// An argument as it can be mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value<'a> {
    Text(Cow<'a, str>),
    Boolean(bool),
    Integer(i64),
}

impl ParamHeaders {
    /// Reads the annotations of `tool`, the JSON text of a tool definition.
    ///
    /// # Errors
    /// [`InvalidAnnotation`]: over HTTP the tool must not be offered.
    pub fn from_tool(tool: &str) -> Result<Self, InvalidAnnotation> {
        let mut walk = Walk::default();
        if may_be_annotated(tool)
            && let Some(schema) = Fields::read(tool)?.get("inputSchema")
        {
            walk.any(schema, "", false)?;
        }
        Ok(Self { params: walk.params })
    }

    /// True when nothing is mirrored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.params.is_empty()
    }

    /// The headers of a call with `arguments`: full name and encoded value. What is absent, null or cannot be mirrored
    /// has none.
    #[must_use]
    pub fn headers(&self, arguments: Option<&str>) -> Vec<(String, String)> {
        let value = |param: &Param| -> Option<String> {
            match param.value(arguments).ok()?? {
                Value::Text(text) => Some(header::encode(&text).into_owned()),
                Value::Boolean(value) => Some(value.to_string()),
                Value::Integer(value) => Some(value.to_string()),
            }
        };
        self.params.iter().filter_map(|param| Some((param.header.clone(), value(param)?))).collect()
    }

    /// Compares the headers of a call with its `arguments`; `get` is asked for lower-case full header names.
    ///
    /// A header is demanded exactly when the arguments have a value that is not null.
    ///
    /// # Errors
    /// The first [`Mismatch`], to be answered with −32020 and HTTP 400.
    pub fn validate<'h>(&self, arguments: Option<&str>, get: impl Fn(&str) -> Option<&'h str>) -> Result<(), Mismatch> {
        for param in &self.params {
            param
                .compare(arguments, get(&param.header_lower))
                .map_err(|reason| Mismatch { header: param.header.clone(), reason })?;
        }
        Ok(())
    }
}

impl Param {
    fn compare(&self, arguments: Option<&str>, header: Option<&str>) -> Result<(), Reason> {
        let header = header.map(header::decode).transpose().map_err(Reason::Bad)?;
        let same = match (self.value(arguments)?, header) {
            (None, None) => true,
            (None, Some(_)) => return Err(Reason::Unexpected),
            (Some(_), None) => return Err(Reason::Missing),
            (Some(Value::Text(value)), Some(header)) => value == header,
            (Some(Value::Boolean(value)), Some(header)) => header == if value { "true" } else { "false" },
            (Some(Value::Integer(value)), Some(header)) => safe_integer(&header) == Some(value),
        };
        if same { Ok(()) } else { Err(Reason::Different) }
    }

    /// The value at the path; nothing when it is absent or null. What counts is the type of the value, not that of the
    /// schema: whether the two agree is for the tool to say.
    fn value<'a>(&self, arguments: Option<&'a str>) -> Result<Option<Value<'a>>, Reason> {
        let mut found = arguments;
        for name in &self.path {
            let mut values = json::members(found.unwrap_or("")).filter(|m| m.name() == name.as_str()).map(|m| m.value);
            found = values.next();
            if values.next().is_some() {
                // Readers disagree on which one counts, and one of them would act on an unvalidated value.
                return Err(Reason::Ambiguous);
            }
        }
        let value = match found {
            None | Some("null") => return Ok(None),
            Some("true") => Some(Value::Boolean(true)),
            Some("false") => Some(Value::Boolean(false)),
            Some(raw) if raw.starts_with('"') => json::string(raw).map(Value::Text),
            Some(raw) => safe_integer(raw).map(Value::Integer),
        };
        value.map(Some).ok_or(Reason::Unmirrorable)
    }
}

/// False when `tool` has no annotation for sure: the key does not occur, and no escape could spell a part of it.
fn may_be_annotated(tool: &str) -> bool {
    let tool = tool.as_bytes();
    memchr::memmem::find(tool, ANNOTATION.as_bytes()).is_some()
        || memchr::memmem::find_iter(tool, b"\\u00").any(|at| matches!(tool.get(at + 4), Some(b'2' | b'6' | b'7')))
}

/// Goes through a schema. Its depth is that of the text, which [`json::check`] has bounded.
#[derive(Debug, Default)]
struct Walk {
    params: Vec<Param>,
    path: Vec<String>,
}

impl Walk {
    /// Any value: `keyword` is where the chain of `properties` keys was left, nothing where it was not.
    fn any(&mut self, value: &str, keyword: &str, off_chain: bool) -> Result<(), InvalidAnnotation> {
        if json::is_object(value) {
            return self.schema(value, keyword, off_chain);
        }
        json::elements(value).try_for_each(|element| self.any(element, keyword, true))
    }

    fn schema(&mut self, schema: &str, keyword: &str, off_chain: bool) -> Result<(), InvalidAnnotation> {
        let fields = Fields::read(schema)?;
        for (key, value) in fields.iter() {
            let below = if off_chain { keyword } else { key };
            match key {
                ANNOTATION if off_chain || self.path.is_empty() => {
                    return Err(InvalidAnnotation::Unreachable { keyword: keyword.to_owned() });
                }
                ANNOTATION => self.annotation(value, fields.string("type").as_deref())?,
                "properties" if !off_chain => self.properties(value)?,
                // Their keys are names, not keywords.
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
                    json::members(value).try_for_each(|member| self.any(member.value, below, true))?;
                }
                // Their values are data, not schemas.
                "const" | "default" | "enum" | "examples" => {}
                _ => self.any(value, below, true)?,
            }
        }
        Ok(())
    }

    fn properties(&mut self, properties: &str) -> Result<(), InvalidAnnotation> {
        if !json::is_object(properties) {
            return Ok(());
        }
        for (name, schema) in Fields::read(properties)?.iter() {
            self.path.push(name.to_owned());
            self.any(schema, "", false)?;
            self.path.pop();
        }
        Ok(())
    }

    fn annotation(&mut self, name: &str, of_type: Option<&str>) -> Result<(), InvalidAnnotation> {
        let path = || self.path.join(".");
        let name = json::string(name).filter(|name| is_token(name));
        let name = name.ok_or_else(|| InvalidAnnotation::Name { path: path() })?;
        if !matches!(of_type, Some("string" | "integer" | "boolean")) {
            return Err(InvalidAnnotation::Type { path: path() });
        }
        let header = format!("{PREFIX}{name}");
        let header_lower = header.to_ascii_lowercase();
        if self.params.iter().any(|param| param.header_lower == header_lower) {
            return Err(InvalidAnnotation::Duplicate { name: name.into_owned() });
        }
        self.params.push(Param { header, header_lower, path: self.path.clone() });
        Ok(())
    }
}

/// `1*tchar` of RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// The integer that a JSON number denotes, however it is spelled; nothing for a fraction, for what is no JSON number, and
/// outside of the safe range. It is exact: a float would round fractions away.
fn safe_integer(number: &str) -> Option<i64> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (negative, rest) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    let exponent_digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if leading_zero || ![whole, fraction, exponent_digits].into_iter().all(is_digits) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    // The value is `significant` times ten to the power of `zeros`.
    let stripped = i64::try_from(digits.len() - significant.len()).ok()?;
    let point = i64::try_from(fraction.len()).ok()?;
    let zeros = usize::try_from(exponent.parse::<i64>().ok()?.checked_add(stripped)?.checked_sub(point)?).ok()?;
    let significant = significant.trim_start_matches('0');
    if significant.len().checked_add(zeros)? > 16 {
        return None;
    }
    let value: i64 = format!("{significant}{}", "0".repeat(zeros)).parse().ok()?;
    (value <= SAFE_MAX).then_some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tool(schema: &str) -> Result<ParamHeaders, InvalidAnnotation> {
        let text = format!(r#"{{"name":"t","inputSchema":{schema}}}"#);
        ParamHeaders::from_tool(json::check(text.as_bytes()).unwrap())
    }

    fn property(schema: &str) -> Result<ParamHeaders, InvalidAnnotation> {
        tool(&format!(r#"{{"type":"object","properties":{{"a":{schema}}}}}"#))
    }

    fn sample() -> ParamHeaders {
        tool(
            r#"{"properties":{
                "region":{"type":"string","x-mcp-header":"Region"},
                "n":{"x-mcp-header":"N","type":"integer"},
                "flag":{"type":"boolean","x-mcp-header":"Flag"},
                "o":{"type":"object","properties":{"x-mcp-header":{"type":"string","x-mcp-header":"Deep"}}},
                "query":{"type":"string"}}}"#,
        )
        .unwrap()
    }

    #[test]
    fn valid_annotations() {
        assert_eq!(sample().params.len(), 4);
        assert_eq!(sample().params[3].path, ["o", "x-mcp-header"]);
        let escaped = property(r#"{"type":"string","x-mcp\u002Dheader":"A"}"#).unwrap();
        assert_eq!(escaped.params[0].header, "Mcp-Param-A");
        for none in [
            "{}",
            r#"{"description":"x-mcp-header"}"#,
            r#"{"properties":{"x-mcp-header":{"type":"string"}}}"#,
            r#"{"properties":{"a":{"default":{"x-mcp-header":1},"enum":[{"x-mcp-header":2}]}}}"#,
            r#"{"$defs":{"x-mcp-header":{"type":"string"}}}"#,
            "true",
        ] {
            assert!(tool(none).unwrap().is_empty(), "{none}");
        }
        let elsewhere = r#"{"outputSchema":{"x-mcp-header":"A"},"inputSchema":{},"_meta":{"x-mcp-header":"A"}}"#;
        assert!(ParamHeaders::from_tool(elsewhere).unwrap().is_empty());
    }

    #[test]
    fn invalid_names_and_types() {
        for name in [r#""""#, r#""My Region""#, r#""A:B""#, r#""Région""#, r#""R\t1""#, r#""A\r\nB""#, "1", "null"] {
            let found = property(&format!(r#"{{"type":"string","x-mcp-header":{name}}}"#)).unwrap_err();
            assert_eq!(found, InvalidAnnotation::Name { path: "a".into() }, "{name}");
        }
        for of in [r#""object""#, r#""array""#, r#""null""#, r#""number""#, r#"["string","null"]"#, "1"] {
            let found = property(&format!(r#"{{"type":{of},"x-mcp-header":"A"}}"#)).unwrap_err();
            assert_eq!(found, InvalidAnnotation::Type { path: "a".into() }, "{of}");
        }
        assert!(matches!(property(r#"{"x-mcp-header":"A"}"#), Err(InvalidAnnotation::Type { .. })));
        let two = r##"{"type":"string","x-mcp-header":"MyField"},"b":{"type":"string","x-mcp-header":"myfield"}"##;
        assert_eq!(property(two), Err(InvalidAnnotation::Duplicate { name: "myfield".into() }));
        let twice = r#"{"type":"string","type":"object","x-mcp-header":"A"}"#;
        assert_eq!(property(twice), Err(InvalidAnnotation::Malformed(Malformed::Duplicate("type".into()))));
    }

    #[test]
    fn annotations_off_the_chain() {
        let leaf = r#"{"type":"string","x-mcp-header":"A"}"#;
        for (schema, keyword) in [
            (leaf.to_owned(), ""),
            (format!(r#"[{leaf}]"#), ""),
            (format!(r#"{{"$defs":{{"d":{leaf}}}}}"#), "$defs"),
            (format!(r#"{{"properties":{{"a":{{"items":{leaf}}}}}}}"#), "items"),
            (format!(r#"{{"properties":{{"a":{{"anyOf":[{leaf}]}}}}}}"#), "anyOf"),
            (format!(r#"{{"if":{{"properties":{{"a":{leaf}}}}}}}"#), "if"),
            (format!(r#"{{"additionalProperties":{leaf}}}"#), "additionalProperties"),
            (format!(r#"{{"patternProperties":{{"^a":{leaf}}}}}"#), "patternProperties"),
            (format!(r#"{{"not":{{"prefixItems":[1,[{leaf}]]}}}}"#), "not"),
        ] {
            assert_eq!(tool(&schema), Err(InvalidAnnotation::Unreachable { keyword: keyword.into() }), "{schema}");
        }
    }

    #[test]
    fn headers_mirror_the_arguments() {
        let headers = |arguments| {
            let all = sample().headers(arguments);
            all.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
        };
        let all = r#"{"region":" é","n":-4.20e1,"flag":false,"o":{"x-mcp-header":"q"},"query":"s"}"#;
        let expected = "Mcp-Param-Region: =?base64?IMOp?=\nMcp-Param-N: -42\nMcp-Param-Flag: false\nMcp-Param-Deep: q";
        assert_eq!(headers(Some(all)), expected);
        assert_eq!(headers(Some(r#"{"region":"","n":9007199254740992,"flag":null,"o":7}"#)), "Mcp-Param-Region: ");
        assert_eq!(headers(Some(r#"{"region":{},"n":1.5,"flag":[]}"#)), "");
        assert_eq!(headers(Some(r#"{"n":1,"n":2}"#)), "");
        assert_eq!(headers(Some("{}")) + &headers(None), "");
    }

    #[test]
    fn headers_are_validated() {
        use Reason::{Ambiguous, Bad, Different, Missing, Unexpected, Unmirrorable};
        let table: [(&str, &str, Option<&str>, Option<Reason>); 27] = [
            (r#"{"region":"Hello"}"#, "region", Some("Hello"), None),
            (r#"{"region":"Hello"}"#, "region", Some("=?base64?SGVsbG8=?="), None),
            (r#"{"region":"SGVsbG8="}"#, "region", Some("SGVsbG8="), None),
            (r#"{"region":"=?base64?SGVsbG8="}"#, "region", Some("=?base64?SGVsbG8="), None),
            (r#"{"region":""}"#, "region", Some(""), None),
            (r#"{"region":"\u0061"}"#, "region", Some("a"), None),
            (r#"{"region":"Hello"}"#, "region", Some("=?base64?SGVsbG8?="), Some(Bad(BadHeader::Base64))),
            (r#"{"region":"Hello"}"#, "region", Some("=?base64?SGVs!!!bG8=?="), Some(Bad(BadHeader::Base64))),
            (r#"{"region":"a"}"#, "region", Some("a\0"), Some(Bad(BadHeader::Character(1)))),
            (r#"{"region":"Hello"}"#, "region", Some("hello"), Some(Different)),
            (r#"{"region":"Hello"}"#, "region", None, Some(Missing)),
            (r#"{"region":""}"#, "region", None, Some(Missing)),
            (r#"{"region":null}"#, "region", None, None),
            (r#"{"region":null}"#, "region", Some("null"), Some(Unexpected)),
            ("{}", "region", Some(""), Some(Unexpected)),
            (r#"{"region":"a","region":"b"}"#, "region", Some("b"), Some(Ambiguous)),
            (r#"{"region":["a"]}"#, "region", Some("a"), Some(Unmirrorable)),
            (r#"{"region":["a"]}"#, "region", None, Some(Unmirrorable)),
            (r#"{"n":42}"#, "n", Some("42.0"), None),
            (r#"{"n":42.0}"#, "n", Some("42"), None),
            (r#"{"n":42}"#, "n", Some("=?base64?NDI=?="), None),
            (r#"{"n":42}"#, "n", Some("0x2a"), Some(Different)),
            (r#"{"n":"42"}"#, "n", Some("42.0"), Some(Different)),
            (r#"{"n":9007199254740993}"#, "n", Some("9007199254740993"), Some(Unmirrorable)),
            (r#"{"flag":true}"#, "flag", Some("true"), None),
            (r#"{"flag":true}"#, "flag", Some("True"), Some(Different)),
            (r#"{"o":{"x-mcp-header":"q"}}"#, "deep", Some("z"), Some(Different)),
        ];
        for (arguments, header, value, expected) in table {
            let full = format!("mcp-param-{header}");
            let found = sample().validate(Some(arguments), |name| value.filter(|_| name == full));
            assert_eq!(found.map_err(|e| e.reason).err(), expected, "{arguments} {value:?}");
        }
        let text = sample().validate(Some(r#"{"region":"secret"}"#), |_| Some("other")).unwrap_err().to_string();
        assert_eq!(text, "Mcp-Param-Region does not match the value in the arguments");
        assert_eq!(sample().validate(None, |_| None), Ok(()));
    }

    #[test]
    fn integers_are_exact() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-0.00e5", Some(0)),
            ("0e99999999999999999999", Some(0)),
            ("9007199254740991", Some(SAFE_MAX)),
            ("-9007199254740991.000", Some(-SAFE_MAX)),
            ("0.00042E+5", Some(42)),
            ("9007199254740990.9", None),
            ("9007199254740992", None),
            ("1e16", None),
            ("1e9223372036854775807", None),
            ("1e-1", None),
        ] {
            assert_eq!(safe_integer(text), expected, "{text}");
        }
        for bad in ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", " 1", "1 ", "--1", "1e--1", "٣", "NaN", "1_0"] {
            assert_eq!(safe_integer(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_mirrored_is_valid(
            region: Option<String>,
            n in prop::option::of(-SAFE_MAX..=SAFE_MAX),
            flag: Option<bool>,
        ) {
            let arguments = serde_json::json!({"region": region, "n": n, "flag": flag}).to_string();
            let headers = sample().headers(Some(&arguments));
            let present = usize::from(region.is_some()) + usize::from(n.is_some()) + usize::from(flag.is_some());
            prop_assert_eq!(headers.len(), present);
            let get = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
            prop_assert_eq!(sample().validate(Some(&arguments), get), Ok(()));
        }

        #[test]
        fn integers_survive_every_spelling(value in -SAFE_MAX..=SAFE_MAX, shift in 0usize..6) {
            let spelled = format!("{value}{}.0e-{shift}", "0".repeat(if value == 0 { 0 } else { shift }));
            prop_assert_eq!(safe_integer(&spelled), Some(value));
        }
    }
}
