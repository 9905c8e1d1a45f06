//! `verona-center group`: one call of the API for each subcommand.

use super::commands::run;
use super::{Access, GroupCommand};
use std::process::ExitCode;
use verona_contract::api::{ADMIN_GROUPS, ClientGroup, GroupMember, GroupRules, NewGroup};
use verona_contract::groups::{Protocol, Rule, RuleAction};

pub(super) fn group(access: &Access, command: GroupCommand) -> anyhow::Result<ExitCode> {
    let of = |id| format!("{ADMIN_GROUPS}/{id}");
    match command {
        GroupCommand::Add { owner, name, rule } => {
            let body = NewGroup { owner, name, rules: rule };
            run(access, async |api| api.post(ADMIN_GROUPS, &body).await, show)?;
        }
        GroupCommand::List => {
            let print = |groups: &Vec<ClientGroup>| groups.iter().for_each(show);
            run(access, async |api| api.get(ADMIN_GROUPS, &[]).await, print)?;
        }
        GroupCommand::Show { id } => {
            run(access, async |api| api.get(&of(id), &[]).await, show)?;
        }
        GroupCommand::Rules { id, rule } => {
            let (path, body) = (format!("{}/rules", of(id)), GroupRules { rules: rule });
            run(access, async |api| api.post(&path, &body).await, show)?;
        }
        GroupCommand::Join { id, client } => {
            let (path, body) = (format!("{}/members", of(id)), GroupMember { client });
            run(access, async |api| api.post(&path, &body).await, show)?;
        }
        GroupCommand::Leave { id, client } => {
            let (path, body) = (format!("{}/members/remove", of(id)), GroupMember { client });
            run(access, async |api| api.post(&path, &body).await, show)?;
        }
        GroupCommand::Remove { id } => {
            run(access, async |api| api.delete(&of(id)).await, show)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(group: &ClientGroup) {
    println!("{}  {}  {} members", group.id, group.name, group.members.len());
    for rule in &group.rules {
        println!("  {}", text(rule));
    }
    for member in &group.members {
        println!("  member {member}");
    }
}

/// As it is typed.
fn text(rule: &Rule) -> String {
    let list = |parts: Vec<String>| if parts.is_empty() { "any".to_owned() } else { parts.join(",") };
    let action = match rule.action {
        RuleAction::Allow => "allow",
        RuleAction::Deny => "deny",
    };
    let protocol = match rule.protocol {
        None => "any",
        Some(Protocol::Tcp) => "tcp",
        Some(Protocol::Udp) => "udp",
        Some(Protocol::Icmp) => "icmp",
    };
    let to = list(rule.to.iter().map(ToString::to_string).collect());
    let ports: Vec<String> = rule.ports.iter().map(ToString::to_string).collect();
    let text = format!("{action} {protocol} {to} {}", ports.join(","));
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_shown_as_they_are_typed() {
        for typed in
            ["allow tcp 192.168.77.0/24,fd00::/8 443,8000-8099", "deny any any", "allow icmp 10.0.0.1/32"]
        {
            assert_eq!(text(&typed.parse().unwrap()), typed);
        }
    }
}
