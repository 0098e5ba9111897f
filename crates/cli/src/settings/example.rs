//! An example of the file, with every setting in a comment.

use super::ALL;

/// The text of the file.
pub(crate) fn text() -> String {
    let mut text = String::from(
        "# Settings of s3layers, with their defaults, or examples if there is no default.\n\
         # A flag overrides the environment, and that overrides this file.\n\
         # Keys do not belong here: they come from the sources of every AWS tool.\n",
    );
    let mut table = "";
    for setting in ALL {
        let (here, name) = setting.name.split_once('.').unwrap_or(("", setting.name));
        if here != table {
            text.push_str(&format!("\n[{here}]\n"));
            table = here;
        }
        let value = (setting.default)().unwrap_or_else(|| setting.sample.to_owned());
        let value = setting.in_file(&value);
        let about = setting.about;
        text.push_str(&format!("\n# {about}\n#{name} = {value}\n"));
    }
    text
}
