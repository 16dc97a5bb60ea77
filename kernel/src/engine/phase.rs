//! Phases of a cell, and the effect of Stop in each.

/// Phase of the cells' process, in the order in which a cell passes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// evcxr and the prelude are being loaded; cells wait.
    Loading,
    /// No cell is running.
    Idle,
    /// No cell is running, but a callback of a widget.
    CallingBack,
    /// The cell is analysed or compiled, or one of its commands (`!ls`) runs. Its code does not run yet.
    Preparing,
    /// `:clear` or `:restart` replaces the cells' process and prepares the new one. Stop waits for the end of this:
    /// without the preparation, no cell could run.
    Restarting,
    /// The cell's code runs.
    Running,
    /// The cell's code waits for input from the user.
    Asking,
    /// The cell's code has ended. The kernel restores the variables of a failed cell, or starts a new
    /// process.
    Finishing,
}

/// A request to stop cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Stop was pressed for the first time in this cell.
    Stop,
    /// Stop was pressed again, or the first press had no effect before the timeout.
    StopAgain,
    /// The kernel ends or restarts.
    Shutdown,
}

/// The reaction to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Nothing,
    /// Cancels the waiting cells; loading continues.
    CancelWaiting,
    /// Kills the compiler or the command; the process with the variables continues.
    StopPrograms,
    /// Completes the restart, and stops the cell after it.
    Postpone,
    /// Asks the cell's code to stop, with SIGINT.
    Interrupt,
    /// Ends the question without an answer, and asks the cell's code to stop.
    InterruptQuestion,
    /// Kills the process with the variables.
    Kill,
    /// Kills all programs and that process.
    KillAll,
}

impl Phase {
    /// Action for a request in this phase.
    pub fn action(self, request: Request) -> Action {
        use Action::*;
        match (request, self) {
            (Request::Shutdown, Phase::Idle) => Nothing,
            (Request::Shutdown, _) => KillAll,
            (_, Phase::Loading) => CancelWaiting,
            (_, Phase::Idle | Phase::Finishing) => Nothing,
            // Also for repeated presses: the process with the variables is not busy.
            (_, Phase::Preparing) => StopPrograms,
            (_, Phase::Restarting) => Postpone,
            (Request::Stop, Phase::Running | Phase::CallingBack) => Interrupt,
            (Request::Stop, Phase::Asking) => InterruptQuestion,
            (Request::StopAgain, Phase::Running | Phase::Asking | Phase::CallingBack) => Kill,
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
            (Phase::CallingBack, [Interrupt, Kill, KillAll]),
            (Phase::Preparing, [StopPrograms, StopPrograms, KillAll]),
            (Phase::Restarting, [Postpone, Postpone, KillAll]),
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
