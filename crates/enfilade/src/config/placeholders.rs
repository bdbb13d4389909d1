//! `${NAME}`, `${env:NAME}` and `${NAME:-default}` in the strings of an `mcpServers` file, as hosts write them.

/// Looks a variable of the environment up.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// `text` with its placeholders replaced.
///
/// # Errors
/// A text that says which variable is missing, or which placeholder is not understood.
pub(crate) fn expand(text: &str, env: Env<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let inner = &rest[start + 2..];
        let end = inner.find('}').ok_or_else(|| format!("\"${{\" without \"}}\" in {text:?}"))?;
        out.push_str(&value(&inner[..end], env)?);
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn value(inner: &str, env: Env<'_>) -> Result<String, String> {
    let name = inner.strip_prefix("env:").unwrap_or(inner);
    let (name, default) = match name.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (name, None),
    };
    if !is_variable(name) {
        return Err(format!("${{{inner}}} is only understood by the host that it was written for; use ${{env:NAME}}"));
    }
    let set = env(name).or_else(|| default.map(str::to_owned));
    set.ok_or_else(|| format!("${{{inner}}}: the environment variable {name} is not set"))
}

fn is_variable(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn table() {
        let env = |name: &str| (name == "TOKEN").then(|| "s3cret$".to_owned());
        let good = [
            ("plain $TOKEN {x}", "plain $TOKEN {x}"),
            ("Bearer ${TOKEN}", "Bearer s3cret$"),
            ("${env:TOKEN}/${TOKEN}", "s3cret$/s3cret$"),
            ("${TOKEN:-no}${OTHER:-a:-b}${env:OTHER:-}", "s3cret$a:-b"),
            ("", ""),
        ];
        for (text, expected) in good {
            assert_eq!(expand(text, &env).as_deref(), Ok(expected), "{text}");
        }
        let bad = [
            ("${OTHER}", "OTHER is not set"),
            ("${env:OTHER}", "OTHER is not set"),
            ("${input:key}", "use ${env:NAME}"),
            ("${workspaceFolder}/x", "workspaceFolder is not set"),
            ("${}", "use ${env:NAME}"),
            ("a${TOKEN", "without"),
        ];
        for (text, expected) in bad {
            let error = expand(text, &env).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
