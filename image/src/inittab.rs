//! busybox's inittab: `id:runlevels:action:process`, the runlevels ignored.
//!
//! busybox skips a line that it does not understand with a message nobody reads, and the box comes up without
//! that daemon. So a bad line is found here.

const ACTIONS: [&str; 7] = ["sysinit", "wait", "once", "respawn", "askfirst", "shutdown", "restart"];

/// Checks an inittab; the findings are one line each.
pub(crate) fn check(text: &str) -> Vec<String> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let entries = numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    entries.filter_map(|(line, text)| Some(format!("inittab line {line}: {}", finding(text)?))).collect()
}

fn finding(line: &str) -> Option<String> {
    let mut fields = line.splitn(4, ':').skip(2);
    let (Some(action), Some(process)) = (fields.next(), fields.next()) else {
        return Some("must be id:runlevels:action:process".to_owned());
    };
    if !ACTIONS.contains(&action) {
        return Some(format!("busybox knows no action {action}"));
    }
    if action == "askfirst" {
        return Some("askfirst gives a shell on the console, which the box must not have".to_owned());
    }
    (!process.starts_with('/')).then(|| format!("{process} must be an absolute path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_nearest_bad() {
        assert!(
            check("# comment\n::sysinit:/etc/init.d/rcS\n::respawn:/usr/sbin/edge-agent --a b:c\n")
                .is_empty()
        );
        for (bad, message) in [
            ("::respawn", "inittab line 1: must be id:runlevels:action:process"),
            ("::respwan:/usr/sbin/edge-agent", "inittab line 1: busybox knows no action respwan"),
            ("\n::respawn:edge-agent", "inittab line 2: edge-agent must be an absolute path"),
            (
                "::askfirst:/bin/sh",
                "inittab line 1: askfirst gives a shell on the console, which the box must not have",
            ),
        ] {
            assert_eq!(check(bad), [message]);
        }
    }
}
