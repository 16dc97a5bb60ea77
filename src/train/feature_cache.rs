//! Cached features of frozen layers, in a folder that several trainings and processes share.
//!
//! The name of a file is the hash of everything that determines the features ([`ContentKey`]). A file is written under
//! a temporary name and renamed, so a reader finds a complete file or none. A lock makes other processes wait for the
//! first one that computes the same features. On a file system without locks, all of them compute the same result.

use std::fs::File;
use std::path::Path;

use candle_core::{DType, Tensor};

use super::content::ContentKey;
use super::feature_file::{FeatureFile, FeatureWriter};
use super::feature_folder::{Entry, FeatureFolder};
use super::predict::BATCH;
use crate::data::{Dataset, Samples};
use crate::files::{little_endian, write_whole_with};
use crate::nn::{Model, SplitPoint};
use crate::notes::note;
use crate::{Error, Result, check_interrupt};

impl FeatureFolder {
    /// Returns the samples with the features of `model` at `split` as inputs, and whether the folder had them.
    /// `None` if they cannot be stored: they are too large, or the model has a custom layer.
    ///
    /// `inspect` receives the original inputs: all batches if they are computed now, otherwise the first batch.
    pub(super) fn features(
        &self,
        (model, split): (&Model, &SplitPoint),
        samples: &Samples,
        memory: usize,
        inspect: &mut dyn FnMut(&Tensor) -> Result<()>,
    ) -> Result<Option<(Samples, bool)>> {
        let prefix = model.prefix(split)?;
        let mut key = ContentKey::new();
        if key.add_model(&prefix).is_err() {
            check_interrupt()?;
            return Ok(None);
        }
        key.add_inputs(samples)?;
        let key = key.finish();
        let path = self.file(&key);
        let _lock = match self.entry(&key) {
            Ok(Entry::Found(found)) => {
                Self::inspect_first(samples, inspect)?;
                return Ok(Some((loaded(found, samples, memory)?, true)));
            }
            Ok(Entry::Missing { lock }) => lock,
            // A folder that cannot be used must not end a training that does not need it.
            Err(problem @ Error::Io { .. }) => {
                note(format_args!("{problem}; the features are not cached"));
                return Ok(None);
            }
            Err(problem) => return Err(problem),
        };
        if !self.write(&path, (model, split), samples, inspect)? {
            return Ok(None);
        }
        self.evict(&path);
        Ok(Self::found(&path)?
            .map(|found| loaded(found, samples, memory))
            .transpose()?
            .map(|data| (data, false)))
    }

    fn inspect_first(samples: &Samples, inspect: &mut dyn FnMut(&Tensor) -> Result<()>) -> Result<()> {
        let first: Vec<u32> = (0..samples.count().min(BATCH) as u32).collect();
        inspect(&samples.take(&first)?.x)
    }

    /// Computes the features and writes the file. Returns false if they exceed the size limit of the folder, or the
    /// file cannot be written. Training then continues without the cache.
    ///
    /// The batch size is always the same, because it can change the last bits of features.
    fn write(
        &self,
        path: &Path,
        (model, split): (&Model, &SplitPoint),
        samples: &Samples,
        inspect: &mut dyn FnMut(&Tensor) -> Result<()>,
    ) -> Result<bool> {
        let mut in_order = samples.clone().in_order();
        in_order.set_batch_size(BATCH);
        let mut epoch = in_order.epoch()?.peekable();
        let first = match epoch.peek() {
            Some(Ok(batch)) => batch.x.narrow(0, 0, 1)?,
            Some(Err(_)) => return epoch.next().map_or(Ok(false), |batch| batch.map(|_| false)),
            None => return Ok(false),
        };
        let row = model.forward_before(split, &first)?.dims()[1..].to_vec();
        let shape = [&[samples.count()], row.as_slice()].concat();
        if (shape.iter().product::<usize>() * size_of::<f32>()) as u64 > self.max_bytes() {
            return Ok(false);
        }
        let mut failed = None;
        let written = write_whole_with(path, |temporary| {
            let mut writer = FeatureWriter::new(File::create_new(temporary)?, shape)?;
            for batch in epoch {
                let features = (|| {
                    check_interrupt()?;
                    let x = batch?.x;
                    inspect(&x)?;
                    Ok(model.forward_before(split, &x)?.flatten_all()?.to_vec1::<f32>()?)
                })();
                match features {
                    Ok(features) => writer.write(&little_endian(&features))?,
                    Err(error) => {
                        failed = Some(error);
                        return Err(std::io::Error::other("the features could not be computed"));
                    }
                }
            }
            writer.finish()
        });
        match (failed, written) {
            (Some(error), _) => Err(error),
            (None, Err(problem)) => {
                note(format_args!("{problem}; the features are not cached"));
                Ok(false)
            }
            (None, Ok(())) => Ok(true),
        }
    }
}

/// The samples with features from a file: in memory if they fit, otherwise read from the file batch by batch.
fn loaded(found: FeatureFile, samples: &Samples, memory: usize) -> Result<Samples> {
    use std::os::unix::fs::FileExt;

    let FeatureFile { file, begin, shape } = found;
    let bytes = shape.iter().product::<usize>() * size_of::<f32>();
    if bytes > memory {
        return Ok(samples.with_file(file, begin, shape[1..].to_vec()));
    }
    let mut content = vec![0; bytes];
    file.read_exact_at(&mut content, begin).map_err(Error::io("the file of features"))?;
    Ok(samples.with_x(Tensor::from_raw_buffer(&content, DType::F32, &shape, &crate::device())?))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, SystemTime};

    use std::sync::Arc;

    use super::*;
    use crate::nn::{Build, Context};
    use crate::prelude::*;

    /// Environment variables of a process that the tests start: the folder, and whether it waits while it writes.
    const FOLDER: &str = "HEADSTART_TEST_CACHE";
    const WAITS: &str = "HEADSTART_TEST_WAITS";

    const GIB: u64 = 1 << 30;

    fn cache(folder: &Path, max_bytes: u64) -> FeatureFolder {
        FeatureFolder::of(folder, max_bytes)
    }

    fn base(seed: u64) -> Result<Model> {
        let base = ResNet18::new(Weights::Random(seed)).alpha(0.1).include_top(false);
        let base = base.pooling(Pooling::Avg).input_shape((3, 32, 32)).build()?;
        base.freeze();
        Ok(base)
    }

    fn samples(count: usize, seed: f64) -> Result<Samples> {
        let x = Tensor::arange(0f32, (count * 3 * 32 * 32) as f32, &device())?.affine(1e-3, seed)?.sin()?;
        Samples::new(&x.reshape((count, 3, 32, 32))?, &Tensor::zeros(count, DType::U32, &device())?, 8, true)
    }

    /// Features of a model with this head, and whether the folder had them.
    fn features(
        cache: &FeatureFolder,
        base: &Model,
        units: usize,
        samples: &Samples,
        memory: usize,
    ) -> Result<Option<(Vec<f32>, bool)>> {
        let model = sequential![base, Dense::new(units)]?;
        let split = model.frozen_split().expect("the base is frozen");
        let found = cache.features((&model, &split), samples, memory, &mut |_| Ok(()))?;
        let all: Vec<u32> = (0..samples.count() as u32).collect();
        found.map(|(data, hit)| Ok((data.take(&all)?.x.flatten_all()?.to_vec1()?, hit))).transpose()
    }

    #[test]
    fn features_are_shared_by_content() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), GIB);
        let (first, data) = (base(1)?, samples(40, 0.0)?);
        let (expected, hit) = features(&cache, &first, 2, &data, usize::MAX)?.unwrap();
        assert!(!hit);
        // Other heads, other targets, another batch size, an equal base, and values that are read from the file.
        let other_targets = Samples::new(
            &data.take(&(0..40).collect::<Vec<_>>())?.x,
            &Tensor::ones(40, DType::U32, &device())?,
            3,
            true,
        )?;
        for (base, units, data, memory) in [
            (&first, 5, &data, 0),
            (&base(1)?, 2, &other_targets, usize::MAX),
            (&first, 2, &data, usize::MAX),
        ] {
            assert_eq!(features(&cache, base, units, data, memory)?.unwrap(), (expected.clone(), true));
        }
        // The values are those computed without the folder.
        let model = sequential![&first, Dense::new(2)]?;
        let direct = model
            .forward_before(&model.frozen_split().unwrap(), &data.take(&(0..32).collect::<Vec<_>>())?.x)?;
        assert_eq!(direct.flatten_all()?.to_vec1::<f32>()?, expected[..direct.elem_count()]);
        // Other weights, other data, a changed weight.
        assert!(!features(&cache, &base(2)?, 2, &data, 0)?.unwrap().1);
        assert!(!features(&cache, &first, 2, &samples(40, 1.0)?, 0)?.unwrap().1);
        let weight = &first.params()[0];
        weight.set(&(weight.value(Mode::Inference) * 1.5)?)?;
        assert!(!features(&cache, &first, 2, &data, 0)?.unwrap().1);
        Ok(())
    }

    #[test]
    fn image_files_are_known_by_their_content() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let (images, cache) = (folder.path().join("images"), cache(&folder.path().join("cache"), GIB));
        draw_demo_images(&images, 4, 32, 1)?;
        let files = |size| ImageFiles::from_directory(&images, (size, size));
        let (base, data) = (base(1)?, files(32)?.samples(4, false)?);
        let (expected, _) = features(&cache, &base, 2, &data, usize::MAX)?.unwrap();
        let moved = folder.path().join("moved");
        std::fs::rename(&images, &moved).unwrap();
        let again = ImageFiles::from_directory(&moved, (32, 32))?.samples(8, true)?;
        assert_eq!(features(&cache, &base, 2, &again, usize::MAX)?.unwrap(), (expected.clone(), true));
        let upright =
            ImageFiles::from_directory(&moved, (32, 32))?.exif_orientation(false).samples(4, false)?;
        assert!(!features(&cache, &base, 2, &upright, usize::MAX)?.unwrap().1);
        let paths = ImageFiles::from_directory(&moved, (32, 32))?.paths;
        std::fs::copy(&paths[1], &paths[0]).unwrap();
        let (changed, hit) = features(&cache, &base, 2, &again, usize::MAX)?.unwrap();
        assert!(!hit && changed[..4] != expected[..4]);
        Ok(())
    }

    #[test]
    fn the_folder_has_a_largest_size_and_damage_is_repaired() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let base = base(1)?;
        let files = || {
            let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
            files.filter(|path| path.extension().is_some_and(|end| end == "safetensors")).collect::<Vec<_>>()
        };
        features(&cache(folder.path(), GIB), &base, 2, &samples(40, 0.0)?, 0)?;
        let size = files()[0].metadata().unwrap().len();
        let small = cache(folder.path(), 2 * size + size / 2);
        let old = SystemTime::now() - Duration::from_secs(60);
        File::options().write(true).open(&files()[0]).unwrap().set_modified(old).unwrap();
        let stale = folder.path().join(".old.part");
        std::fs::write(&stale, "").unwrap();
        File::options()
            .write(true)
            .open(&stale)
            .unwrap()
            .set_modified(old - Duration::from_secs(2 * 24 * 60 * 60))
            .unwrap();
        for seed in [1.0, 2.0] {
            features(&small, &base, 2, &samples(40, seed)?, 0)?;
        }
        assert!(files().len() == 2 && !stale.exists());
        assert!(!features(&small, &base, 2, &samples(40, 0.0)?, 0)?.unwrap().1, "the oldest was removed");
        // Features that exceed the limit by themselves are not cached.
        assert!(features(&cache(folder.path(), 64), &base, 2, &samples(40, 3.0)?, 0)?.is_none());
        let (expected, _) = features(&small, &base, 2, &samples(40, 0.0)?, 0)?.unwrap();
        for file in files() {
            let mut content = std::fs::read(&file).unwrap();
            *content.last_mut().unwrap() ^= 1;
            std::fs::write(&file, content).unwrap();
        }
        assert_eq!(features(&small, &base, 2, &samples(40, 0.0)?, 0)?.unwrap(), (expected, false));
        Ok(())
    }

    #[test]
    fn a_user_defined_layer_is_not_kept() -> Result<()> {
        struct Twice;
        struct TwiceLayer(Vec<usize>);
        impl Build for Twice {
            fn default_name(&self) -> &str {
                "twice"
            }
            fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
                Ok(Arc::new(TwiceLayer(context.inputs[0].to_vec())))
            }
        }
        impl Layer for TwiceLayer {
            fn kind(&self) -> &'static str {
                "Twice"
            }
            fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
                Ok((inputs[0] * 2.0)?)
            }
            fn output_shape(&self) -> &[usize] {
                &self.0
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let model = sequential![&base(1)?, Twice, Dense::new(2)]?;
        let split = model.frozen_split().unwrap();
        let cache = cache(folder.path(), GIB);
        assert!(cache.features((&model, &split), &samples(4, 0.0)?, 0, &mut |_| Ok(()))?.is_none());
        Ok(())
    }

    /// Starts a process that computes the features of the tests' samples in a folder.
    fn start(folder: &Path, waits: bool) -> Child {
        let test = "train::feature_cache::tests::processes_compute_once_and_a_killed_one_leaves_no_lock";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture"]).env(FOLDER, folder).stdout(Stdio::piped());
        if waits {
            command.env(WAITS, "1");
        }
        command.spawn().unwrap()
    }

    /// The first line of a process's output that contains a text.
    fn line(process: &mut Child, word: &str) -> String {
        let output = BufReader::new(process.stdout.as_mut().unwrap());
        let found = output.lines().map_while(std::result::Result::ok).find(|line| line.contains(word));
        found.unwrap_or_else(|| panic!("no line with {word}"))
    }

    #[test]
    fn processes_compute_once_and_a_killed_one_leaves_no_lock() -> Result<()> {
        let (base, data) = (base(1)?, samples(40, 0.0)?);
        if let Some(folder) = std::env::var_os(FOLDER) {
            let model = sequential![&base, Dense::new(2)]?;
            let split = model.frozen_split().unwrap();
            let inspect = &mut |_: &Tensor| {
                if std::env::var_os(WAITS).is_some() {
                    println!("writes");
                    loop {
                        std::thread::park();
                    }
                }
                Ok(())
            };
            let (found, hit) = cache(Path::new(&folder), GIB)
                .features((&model, &split), &data, usize::MAX, inspect)?
                .unwrap();
            let sum = found.take(&[0, 39])?.x.sum_all()?.to_scalar::<f32>()?;
            println!("\nhit: {hit}, {sum}");
            return Ok(());
        }
        let folder = tempfile::tempdir().unwrap();
        let mut killed = start(folder.path(), true);
        line(&mut killed, "writes");
        // The others wait until the first process is killed.
        let mut others: Vec<Child> = (0..3).map(|_| start(folder.path(), false)).collect();
        line(&mut others[0], "waiting for another process");
        killed.kill().unwrap();
        killed.wait().unwrap();
        let mut lines: Vec<String> = others.iter_mut().map(|process| line(process, "hit: ")).collect();
        others.iter_mut().for_each(|process| assert!(process.wait().unwrap().success()));
        lines.sort();
        assert!(lines[0].starts_with("hit: false") && lines[1].starts_with("hit: true"), "{lines:?}");
        let sums: Vec<&str> = lines.iter().map(|line| line.split_once(", ").unwrap().1).collect();
        assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
        Ok(())
    }

    #[test]
    fn writers_without_a_lock_leave_a_complete_file() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let (base, data) = (base(1)?, samples(40, 0.0)?);
        let model = sequential![&base, Dense::new(2)]?;
        let split = model.frozen_split().unwrap();
        let path = folder.path().join("a.safetensors");
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let cache = cache(folder.path(), GIB);
                    for _ in 0..5 {
                        assert!(cache.write(&path, (&model, &split), &data, &mut |_| Ok(())).unwrap());
                        assert_eq!(FeatureFile::open(&path).unwrap().shape[0], 40);
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        Ok(())
    }
}
