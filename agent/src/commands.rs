//! `bootcmd` and `runcmd`, when `holdfast.compat.run_in` names an image to run them in: one service, that is a one-shot
//! container with all rights on the host. A node itself has no shell.
//!
//! All commands become one script for the image's `sh`. It leaves a mark on the host for what is done once per instance;
//! the mark is made first, so that a command that reboots the machine does not do so for ever.

use std::time::Duration;

use config::container::Namespace;
use config::{Commands, Container, Located, Logging, Network, Service};
use plan::{Restart, ServiceName};

/// The service's name.
const NAME: &str = "commands";

/// The mark that this instance has run `runcmd`, as the container sees it.
const MARK: &str = "/proc/1/root/var/lib/holdfast/instance/runcmd";

/// The service that runs the commands; none when there are none.
pub(crate) fn service(
    commands: &Commands,
    image: &Located<String>,
    instance_id: Option<&str>,
) -> Option<(ServiceName, Service)> {
    if commands.boot.is_empty() && commands.run.is_empty() {
        return None;
    }
    let name = ServiceName::new(NAME).ok()?;
    let service = Service {
        image: image.clone(),
        pull_policy: config::PullPolicy::Missing,
        command: Some(Vec::new()),
        entrypoint: Some(vec!["sh".to_owned(), "-c".to_owned(), script(commands)]),
        // Another instance is another container, so PID 1 starts it again.
        environment: [("INSTANCE_ID".to_owned(), instance_id.unwrap_or_default().to_owned())].into(),
        working_dir: Some("/".into()),
        user: Some(Located { value: "0:0".to_owned(), mark: image.mark }),
        restart: Restart::No,
        network: Network::Host,
        reach: Default::default(),
        privileged: true,
        pid: Namespace::Node,
        ipc: Namespace::Own,
        depends_on: Default::default(),
        stop_grace_period: Duration::from_secs(10),
        start_first: false,
        logging: Logging::Console,
        container: Container::default(),
    };
    Some((name, service))
}

fn script(commands: &Commands) -> String {
    let lines = |key: &str, commands: &[Vec<String>]| -> String {
        let line = |(number, words): (usize, &Vec<String>)| {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            let name = format!("{key}[{number}]");
            format!("{} || echo \"{name} has failed with exit code $?\"\n", words.join(" "))
        };
        commands.iter().enumerate().map(line).collect()
    };
    let mut script = lines("bootcmd", &commands.boot);
    if !commands.run.is_empty() {
        script += &format!("[ -e {MARK} ] && exit 0\n: > {MARK}\n{}", lines("runcmd", &commands.run));
    }
    // A command that fails is said, and is no failure of the node.
    script + "exit 0\n"
}

/// A word that the shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn commands(boot: &[&[&str]], run: &[&[&str]]) -> Commands {
        let owned = |commands: &[&[&str]]| {
            commands.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect()).collect()
        };
        Commands { boot: owned(boot), run: owned(run) }
    }

    #[test]
    fn a_command_that_fails_is_said_and_the_next_one_runs() {
        let script = script(&commands(
            &[&["false"], &["sh", "-c", "echo \"it's $((1 + 1))\""], &["echo", "$HOME"]],
            &[],
        ));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, "bootcmd[0] has failed with exit code 1\nit's 2\n$HOME\n");
        assert!(output.status.success());
    }

    #[test]
    fn what_runs_once_leaves_its_mark_first() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let script = script(&commands(&[&["echo", "boot"]], &[&["echo", "run"]]));
        let script = script.replace(MARK, mark.to_str().unwrap());
        let said = || {
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!((said().as_str(), said().as_str()), ("boot\nrun\n", "boot\n"));
        assert!(script.find(": >").unwrap() < script.find("'run'").unwrap());
    }

    #[test]
    fn without_commands_there_is_no_service() {
        let image = Located { value: "busybox".to_owned(), mark: Default::default() };
        assert!(service(&Commands::default(), &image, None).is_none());
        assert!(service(&commands(&[], &[&["true"]]), &image, None).is_some());
    }
}
