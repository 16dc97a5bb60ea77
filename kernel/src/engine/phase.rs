//! What a cell is doing, and what a press of Stop means then.

/// The state of the cells, in the order in which a cell goes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// evcxr and the prelude are being loaded; cells wait.
    Loading,
    /// No cell is at work.
    Idle,
    /// The cell is analysed or compiled, or a command of it runs (`!ls`): its own code does not run.
    Preparing,
    /// The cell's code runs.
    Running,
    /// The cell's code waits for its user's answer.
    Asking,
    /// The cell's code is over; the kernel restores what a failed cell took, or prepares a new process.
    Finishing,
}

/// What the kernel is asked to do with a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Stop was pressed for the first time in this cell.
    Stop,
    /// Stop was pressed again, or the first press had no effect within its time.
    StopAgain,
    /// The kernel is to end or to restart.
    Shutdown,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Nothing,
    /// The cells that wait end; the loading goes on.
    CancelWaiting,
    /// The compiler, or the command, ends; the process with the variables is left alone.
    StopPrograms,
    /// The cell's code is asked to stop, by SIGINT.
    Interrupt,
    /// The question ends without an answer, and the cell's code is asked to stop.
    InterruptQuestion,
    /// The process with the variables is killed.
    Kill,
    /// All programs and that process are killed.
    KillAll,
}

impl Phase {
    /// What a request means in this phase.
    pub fn action(self, request: Request) -> Action {
        use Action::*;
        match (request, self) {
            (Request::Shutdown, Phase::Idle) => Nothing,
            (Request::Shutdown, _) => KillAll,
            (_, Phase::Loading) => CancelWaiting,
            (_, Phase::Idle | Phase::Finishing) => Nothing,
            // However often it is pressed: the variables are not what is busy.
            (_, Phase::Preparing) => StopPrograms,
            (Request::Stop, Phase::Running) => Interrupt,
            (Request::Stop, Phase::Asking) => InterruptQuestion,
            (Request::StopAgain, Phase::Running | Phase::Asking) => Kill,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Action::*;
    use super::*;

    #[test]
    fn each_request_has_its_action_in_each_phase() {
        let table = [
            (Phase::Loading, [CancelWaiting, CancelWaiting, KillAll]),
            (Phase::Idle, [Nothing, Nothing, Nothing]),
            (Phase::Preparing, [StopPrograms, StopPrograms, KillAll]),
            (Phase::Running, [Interrupt, Kill, KillAll]),
            (Phase::Asking, [InterruptQuestion, Kill, KillAll]),
            (Phase::Finishing, [Nothing, Nothing, KillAll]),
        ];
        for (phase, expected) in table {
            let actions =
                [Request::Stop, Request::StopAgain, Request::Shutdown].map(|request| phase.action(request));
            assert_eq!(actions, expected, "{phase:?}");
        }
    }
}
