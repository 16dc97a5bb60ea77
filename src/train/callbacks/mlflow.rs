//! The callback that logs a training for MLflow.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use super::mlflow_store::{ID_BYTES, Run, Status, is_file_name};
use super::state::{numbers, read_numbers};
use super::{Callback, Training};
use crate::Result;
use crate::check::check;
use crate::files::check_writable_folder;

/// Name of the state in a backup.
const ID: &str = "id";

/// Writes a run for MLflow: parameters, and the measured values of each epoch as metrics.
///
/// `MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri mlruns` shows it with other runs. `mlflow
/// migrate-filestore` moves the runs to a database.
///
/// ```
/// use headstart::prelude::*;
/// # let folder = tempfile::tempdir().unwrap();
/// # std::env::set_current_dir(&folder).unwrap();
/// # let mut model = sequential![Input::new(2), Dense::new(1)]?;
/// # model.compile(Adam::default(), MeanSquaredError, []);
/// # let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
/// let logger = MLflowLogger::new("mlruns").experiment("cats and dogs").run_name("small").param("units", 32);
/// model.fit((&x, &y), Fit::epochs(3).callback(logger))?;
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// The number of epochs and the initial learning rate are parameters of every run, unless [`Self::param`] sets them. A
/// training that resumes from [`BackupAndRestore`](super::BackupAndRestore) continues its run. Processes may write into
/// the same folder at once.
///
/// MLflow shows the run as finished, as failed if an error ended the training, or as killed if an interrupt did.
#[derive(Debug)]
pub struct MLflowLogger {
    folder: PathBuf,
    experiment: String,
    run_name: Option<String>,
    params: Vec<(String, String)>,
    /// The learning rate before the first step.
    learning_rate: f64,
    run: Option<Run>,
    /// The id of the run in the backup from which the training resumes.
    resumed: Option<String>,
}

impl MLflowLogger {
    /// Creates the callback. It writes into the folder `tracking_folder`, MLflow's `mlruns`.
    pub fn new(tracking_folder: impl AsRef<Path>) -> MLflowLogger {
        MLflowLogger {
            folder: tracking_folder.as_ref().to_owned(),
            experiment: "Default".into(),
            run_name: None,
            params: Vec::new(),
            learning_rate: 0.0,
            run: None,
            resumed: None,
        }
    }

    /// Sets the experiment, a group of runs. Default: `Default`.
    pub fn experiment(mut self, name: &str) -> MLflowLogger {
        self.experiment = name.to_owned();
        self
    }

    /// Sets the name of the run. Default: the model's name.
    pub fn run_name(mut self, name: &str) -> MLflowLogger {
        self.run_name = Some(name.to_owned());
        self
    }

    /// Adds a parameter.
    pub fn param(mut self, name: &str, value: impl Display) -> MLflowLogger {
        self.params.retain(|(known, _)| known != name);
        self.params.push((name.to_owned(), value.to_string()));
        self
    }

    /// The run, created when the first values are written.
    fn opened(&mut self, training: &Training) -> Result<&mut Run> {
        let run = match self.run.take() {
            Some(run) => run,
            None => self.open(training)?,
        };
        Ok(self.run.insert(run))
    }

    fn open(&self, training: &Training) -> Result<Run> {
        let name = self.run_name.clone().unwrap_or_else(|| training.model().name().to_owned());
        let automatic = [
            ("epochs".to_owned(), training.epochs().to_string()),
            ("learning_rate".to_owned(), self.learning_rate.to_string()),
        ];
        // The user's come first.
        let params: Vec<_> = self.params.iter().cloned().chain(automatic).collect();
        Run::open(&self.folder, &self.experiment, name, &params, self.resumed.clone())
    }

    /// Ends the run, if there is one.
    fn end(&mut self, status: Status) -> Result<()> {
        self.run.take().map_or(Ok(()), |run| run.end(status))
    }
}

impl Callback for MLflowLogger {
    fn on_train_begin(&mut self, training: &mut Training) -> Result<()> {
        self.end(Status::Killed)?;
        // At the end of the first epoch, a schedule has changed it.
        self.learning_rate = training.learning_rate();
        self.resumed = None;
        check("experiment", format!("{:?}", self.experiment), !self.experiment.trim().is_empty(), "a name")?;
        let expected = "letters, digits, spaces and _ - . : in the name";
        self.params.iter().try_for_each(|(name, _)| check("param", name, is_file_name(name), expected))?;
        check_writable_folder(&self.folder)
    }

    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        let step = training.epoch() - 1;
        let values = training.values().to_vec();
        let run = self.opened(training)?;
        values.iter().try_for_each(|(name, value)| run.log(name, *value, step))
    }

    fn on_train_end(&mut self, _: &mut Training) -> Result<()> {
        self.end(Status::Finished)
    }

    fn on_train_error(&mut self, _: &mut Training) -> Result<()> {
        self.end(Status::Failed)
    }

    fn state(&self) -> Result<HashMap<String, Tensor>> {
        let Some(run) = &self.run else { return Ok(HashMap::new()) };
        let byte = |at: usize| u8::from_str_radix(&run.id()[2 * at..2 * at + 2], 16).unwrap_or_default();
        let bytes: Vec<f64> = (0..ID_BYTES).map(|at| f64::from(byte(at))).collect();
        Ok(HashMap::from([(ID.to_owned(), numbers(&bytes)?)]))
    }

    fn set_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let bytes = read_numbers(state, ID)?.filter(|bytes| bytes.len() == ID_BYTES);
        self.resumed = bytes.map(|bytes| bytes.iter().map(|byte| format!("{:02x}", *byte as u8)).collect());
        Ok(())
    }
}

/// Ends the run of a training that did not reach `on_train_end`: it failed if a panic ended it. Otherwise an interrupt
/// killed it.
impl Drop for MLflowLogger {
    fn drop(&mut self) {
        let _ = self.end(if std::thread::panicking() { Status::Failed } else { Status::Killed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::prelude::*;

    fn fit(
        logger: MLflowLogger,
        epochs: usize,
        backup: Option<&Path>,
        stop: Option<usize>,
    ) -> Result<History> {
        let mut model = sequential![Input::new(2), Dense::new(1)]?;
        model.compile(SGD::new(0.5), MeanSquaredError, []);
        let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
        let mut fit = Fit::epochs(epochs).verbose(false).chart(false).advice(false).callback(logger);
        if let Some(backup) = backup {
            fit = fit.callback(BackupAndRestore::new(backup));
        }
        if let Some(stop) = stop {
            fit = fit.callback(FailAt(stop));
        }
        model.fit((&x, &y), fit)
    }

    /// Fails at the beginning of an epoch.
    struct FailAt(usize);

    impl crate::train::Callback for FailAt {
        fn on_epoch_begin(&mut self, training: &mut Training) -> Result<()> {
            check("epoch", training.epoch(), training.epoch() != self.0, "another one")
        }
    }

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn folders(path: &Path) -> Vec<PathBuf> {
        std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect()
    }

    #[test]
    fn a_run_has_parameters_metrics_and_an_end() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let logger =
            || MLflowLogger::new(folder.path()).experiment("it's \"one\"").run_name("a: b").param("net", "x");
        let history = fit(logger(), 3, None, None)?;
        fit(logger(), 1, None, None)?;
        let [experiment] = &folders(folder.path())[..] else { panic!("not one experiment") };
        let runs = folders(experiment);
        assert_eq!(runs.len(), 2);
        let run = runs.iter().find(|run| text(&run.join("params/epochs")) == "3").unwrap();
        assert_eq!(
            (text(&run.join("params/net")), text(&run.join("params/learning_rate"))),
            ("x".into(), "0.5".into())
        );
        let losses = text(&run.join("metrics/loss"));
        let rows: Vec<Vec<f64>> = losses
            .lines()
            .map(|line| line.split(' ').map(|field| field.parse().unwrap()).collect())
            .collect();
        assert_eq!(rows.iter().map(|row| row[1]).collect::<Vec<_>>(), &history["loss"]);
        assert_eq!(rows.iter().map(|row| row[2]).collect::<Vec<_>>(), [0.0, 1.0, 2.0]);
        let about = text(&run.join("meta.yaml"));
        assert!(about.contains("status: 3\n") && about.contains("run_name: \"a: b\"\n"), "{about}");
        assert!(!about.contains("end_time: null"));
        for name in ["", "a/b", "..", "a?"] {
            let problem =
                fit(MLflowLogger::new(folder.path()).param(name, 1), 1, None, None).unwrap_err().to_string();
            assert!(problem.contains("letters, digits"), "{problem}");
        }
        Ok(())
    }

    /// Panics, or ends as an interrupt does, at the beginning of the second epoch.
    struct End(bool);

    impl crate::train::Callback for End {
        fn on_epoch_begin(&mut self, training: &mut Training) -> Result<()> {
            match training.epoch() {
                1 => Ok(()),
                _ if self.0 => panic!("a fault"),
                _ => Err(Error::Interrupted),
            }
        }

        fn on_train_end(&mut self, _: &mut Training) -> Result<()> {
            check("the end", "reached", false, "an error")
        }
    }

    #[test]
    fn the_status_is_that_of_the_end() -> Result<()> {
        let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
        for (epochs, panics, status) in [(1, false, 4), (2, false, 5), (2, true, 4)] {
            let mut model = sequential![Input::new(2), Dense::new(1)]?;
            model.compile(SGD::new(0.5), MeanSquaredError, []);
            let folder = tempfile::tempdir().unwrap();
            let fit = Fit::epochs(epochs).verbose(false).chart(false).advice(false).callback(End(panics));
            let fit = fit.callback(MLflowLogger::new(folder.path()));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| model.fit((&x, &y), fit)));
            assert_eq!(result.is_err(), panics);
            let run = folders(&folder.path().join("0")).swap_remove(0);
            let about = text(&run.join("meta.yaml"));
            assert!(about.contains(&format!("status: {status}\n")), "{epochs}, {panics}: {about}");
        }
        Ok(())
    }

    #[test]
    fn a_resumed_training_continues_its_run() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let backup = folder.path().join("training.backup");
        let runs = folder.path().join("mlruns");
        assert!(fit(MLflowLogger::new(&runs), 4, Some(&backup), Some(3)).is_err());
        let run = folders(&runs.join("0")).swap_remove(0);
        assert!(text(&run.join("meta.yaml")).contains("status: 4\n"));
        // Written after the last backup.
        let metric = run.join("metrics/loss");
        std::fs::write(&metric, text(&metric) + "7 0.5 2\n").unwrap();
        fit(MLflowLogger::new(&runs), 4, Some(&backup), None)?;
        assert_eq!(folders(&runs.join("0")), std::slice::from_ref(&run));
        assert!(text(&run.join("meta.yaml")).contains("status: 3\n"));
        let losses = text(&metric);
        let steps: Vec<&str> = losses.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(steps, ["0", "1", "2", "3"]);
        Ok(())
    }
}
