//! The `headstart features` command: extracts features of image files in shards.
//!
//! This program does not contain the library, so the command runs one cell that calls `Model::extract_features`.

use std::path::{Path, PathBuf};

/// Lines of the cell that leave out damaged files.
const WITHOUT_DAMAGED: &str = "let (files, damaged) = files.without_damaged()?;
    damaged.iter().for_each(|path| println!(\"left out as damaged: {}\", path.display()));
    ";
/// Extensions of the usual image files, to recognise images outside the folders of classes.
const IMAGES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];

/// Options of `headstart features`.
#[derive(clap::Args)]
pub struct Options {
    /// The folder of images: one folder per class, or images without classes.
    folder: PathBuf,
    /// Read all images in the folder and its subfolders as images without classes.
    #[arg(long)]
    no_classes: bool,
    /// Leave out files that cannot be decoded. Each shard then decodes all images first; give it for all shards.
    #[arg(long)]
    skip_damaged: bool,
    /// The folder for the features, the same for all shards.
    #[arg(long, short, visible_alias = "out", value_name = "FOLDER")]
    output: PathBuf,
    /// The shard to compute, such as 0/4 for the first of four.
    #[arg(long, default_value = "0/1", value_name = "I/N", value_parser = shard)]
    shard: (usize, usize),
    /// A network of `headstart models list`, or a file that `Model::save` wrote.
    #[arg(long, default_value = "resnet50", value_name = "NAME")]
    model: String,
    /// The network's weights: `imagenet`, `demo`, `random`, a file, or a name or repository of timm.
    #[arg(long, default_value = "imagenet")]
    weights: String,
    /// Height and width of the images in pixels. Default: those of the network.
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Write the feature maps instead of their means.
    #[arg(long)]
    no_pooling: bool,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    numbers
        .filter(|(shard, shards)| shard < shards)
        .ok_or_else(|| format!("expected I/N with I from 0 to N - 1, such as 0/4, found {text:?}"))
}

/// The cell that computes the features.
///
/// # Errors
/// If the folder cannot be read or has both classes and other images, a path is not UTF-8, or an option does not fit the
/// model.
pub fn code(options: &Options) -> Result<String, String> {
    let Options { folder, output, shard: (shard, shards), size, .. } = options;
    let has_classes = !options.no_classes && has_classes(folder)?;
    let reader = if has_classes { "from_directory" } else { "without_classes" };
    let [folder, output] = [literal(folder)?, literal(output)?];
    let whole = if options.skip_damaged { WITHOUT_DAMAGED } else { "" };
    Ok(format!(
        "{{\n    let model = {};\n    let side = (model.input_shape()[1], model.input_shape()[2]);\n    \
         let files = ImageFiles::{reader}({folder}, side)?;\n    {whole}\
         model.extract_features(&files, {output}, ({shard}, {shards}))?;\n}}",
        model(options, *size)?
    ))
}

/// The expression that builds the model.
fn model(options: &Options, size: Option<usize>) -> Result<String, String> {
    let Options { model, weights, no_pooling, .. } = options;
    if Path::new(model).extension().is_some_and(|extension| extension == "safetensors") {
        return match size {
            None => Ok(format!("Model::load({model:?})?")),
            Some(_) => Err(format!("--size: expected a network's name as the model, found the file {model}")),
        };
    }
    let weights = match weights.as_str() {
        "imagenet" => "Weights::ImageNet".to_owned(),
        "demo" => "Weights::Demo".to_owned(),
        "random" => "Weights::Random(0)".to_owned(),
        file if Path::new(file).is_file() => format!("Weights::file({file:?})"),
        repository if repository.contains('/') => format!("Weights::hub({repository:?})"),
        name => format!("Weights::named({name:?})"),
    };
    let size = size.map(|side| format!(".input_shape((3, {side}, {side}))")).unwrap_or_default();
    let pooling = if *no_pooling { "" } else { ".pooling(Pooling::Avg)" };
    Ok(format!("Network::named({model:?}, {weights})?.include_top(false){size}{pooling}.build()?"))
}

/// Whether the folder has folders of classes.
///
/// # Errors
/// If it also has images that belong to no class.
fn has_classes(folder: &Path) -> Result<bool, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths = entries.flatten().map(|entry| entry.path()).filter(|path| !is_hidden(path));
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = paths.partition(|path| path.is_dir());
    let loose = files.iter().filter(|path| is_image(path)).count();
    match (folders.first(), loose) {
        (Some(class), 1..) => Err(format!(
            "{}: expected one folder per class or images without classes, found both: folders such as {}, and \
             images outside of them ({loose})\nhint: move the images, or read all of them with --no-classes",
            folder.display(),
            class.display()
        )),
        (class, _) => Ok(class.is_some()),
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().unwrap_or_default().to_string_lossy().starts_with('.')
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    IMAGES.contains(&extension.as_str())
}

/// A path as a Rust string.
fn literal(path: &Path) -> Result<String, String> {
    let text = path.to_str().ok_or_else(|| format!("{}: expected a path in UTF-8", path.display()))?;
    Ok(format!("{text:?}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    fn code_of(arguments: &[&str]) -> Result<String, String> {
        let all = ["features"].iter().chain(arguments);
        let parsed = Arguments::try_parse_from(all).map_err(|error| error.to_string())?;
        code(&parsed.options)
    }

    #[test]
    fn options_become_the_code_of_a_cell() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let code =
            code_of(&[path, "--out", "a \"b\"", "--shard", "1/4", "--weights", "demo", "--size", "64"])
                .unwrap();
        assert!(code.contains("without_classes") && code.contains(r#""a \"b\"", (1, 4)"#), "{code}");
        assert!(code.contains(r#"Network::named("resnet50", Weights::Demo)?.include_top(false).input_shape((3, 64, 64)).pooling"#), "{code}");
        syn::parse_str::<syn::Block>(&code).unwrap();
        std::fs::create_dir(folder.path().join("cats")).unwrap();
        let code = code_of(&[path, "-o", "b", "--model", "own.safetensors"]).unwrap();
        assert!(
            code.contains("from_directory") && code.contains(r#"Model::load("own.safetensors")?"#),
            "{code}"
        );
        for (weights, expected) in
            [("timm/a.b", "Weights::hub"), ("a.b", "Weights::named"), ("random", "Random(0)")]
        {
            let code = code_of(&[path, "-o", "b", "--weights", weights]).unwrap();
            assert!(code.contains(expected), "{code}");
        }
        let code = code_of(&[path, "-o", "b", "--skip-damaged"]).unwrap();
        assert!(code.contains("files.without_damaged()?"), "{code}");
        syn::parse_str::<syn::Block>(&code).unwrap();
        std::fs::write(folder.path().join("loose.JPG"), "").unwrap();
        let problem = code_of(&[path, "-o", "b"]).unwrap_err();
        assert!(
            problem.contains("/cats, and images outside of them (1)") && problem.contains("--no-classes"),
            "{problem}"
        );
        assert!(code_of(&[path, "-o", "b", "--no-classes"]).unwrap().contains("without_classes"));
        for wrong in ["4/4", "1", "a/b", "0/0", "-1/2"] {
            let problem = code_of(&[path, "-o", "b", &format!("--shard={wrong}")]).unwrap_err();
            assert!(problem.contains("such as 0/4"), "{problem}");
        }
        assert!(code_of(&["/no/such", "-o", "b"]).unwrap_err().contains("/no/such"));
        assert!(code_of(&[path, "-o", "b", "--model", "a.safetensors", "--size", "9"]).is_err());
    }
}
