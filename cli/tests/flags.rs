//! The command line does not change by accident.

use std::fmt::Write as _;
use std::path::Path;

/// Every subcommand's help, one after the other, at a fixed width.
fn all_help() -> String {
    let mut command = artel_cli::command_line().term_width(100);
    command.build();
    let mut text = format!("{}\n", command.render_help());
    for subcommand in command.get_subcommands_mut() {
        let title = format!("artel {}", subcommand.get_name());
        writeln!(text, "==== {title}\n\n{}", subcommand.render_help()).expect("writing to a String cannot fail");
    }
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
}

/// Goal: a flag is added, renamed or dropped on purpose only. Method: the help of every subcommand is compared with
/// tests/flags.txt; `ARTEL_UPDATE_SNAPSHOTS=1` writes that file anew.
#[test]
fn the_flag_set_is_known() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/flags.txt");
    let help = all_help();
    if std::env::var_os("ARTEL_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &help).expect("the snapshot is written");
    }
    let known = std::fs::read_to_string(&path).expect("the snapshot is there");
    assert!(help == known, "the command line changed; if that is meant, run this test with ARTEL_UPDATE_SNAPSHOTS=1\n\n{help}");
}
