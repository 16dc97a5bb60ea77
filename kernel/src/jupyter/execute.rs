//! Execution of a cell, with its messages to the clients.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use headstart_frame::Answer;
use jupyter_protocol::{
    ErrorOutput, ExecuteInput, ExecuteReply, ExecuteRequest, ExecuteResult, ExecutionCount, ExpressionResult,
    InputRequest, JupyterMessage, JupyterMessageContent, ReplyError, ReplyStatus, Transient,
};
use serde_json::Map;

use crate::engine::handle::Stage;
use crate::engine::output::{CellError, Event, Outcome};
use crate::engine::question::Question;
use crate::jupyter::kernel::{Kernel, media};
use crate::jupyter::notices::Notices;

impl Kernel {
    /// Runs a cell, publishes its outputs, and returns the reply.
    pub async fn execute(&self, cell: &ExecuteRequest, request: &JupyterMessage) -> ExecuteReply {
        let counted = cell.store_history && !cell.silent && !cell.code.trim().is_empty();
        let count = self.count.fetch_add(usize::from(counted), Ordering::SeqCst) + usize::from(counted);
        let execution_count = ExecutionCount::new(count);
        let publish = |content: JupyterMessageContent| {
            if !cell.silent {
                self.publisher.publish(content, Some(request));
            }
        };
        publish(ExecuteInput { code: cell.code.clone(), execution_count }.into());
        let mut received = self.engine.execute(cell.code.clone());
        let mut outcome: Outcome = Err(CellError::engine_stopped());
        let mut stage = self.engine.stage();
        // Shows a notice that was published before this cell.
        stage.mark_changed();
        // The open question to the user. Outputs of other threads are shown meanwhile.
        let mut asking: Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = None;
        let mut notices = Notices::default();
        // After a failed start, only the cells that waited for it show its notices.
        let waits = matches!(*stage.borrow(), Stage::Loading(_));
        loop {
            let event = tokio::select! {
                Ok(()) = stage.changed() => {
                    if waits {
                        notices.show_new(stage.borrow_and_update().notices()).into_iter().for_each(&publish);
                    }
                    continue;
                }
                () = async { asking.as_mut().expect("checked below").await }, if asking.is_some() => {
                    asking = None;
                    continue;
                }
                event = received.recv() => event,
            };
            notices.end(matches!(*stage.borrow(), Stage::Failed(_))).into_iter().for_each(&publish);
            let Some(event) = event else { break };
            match event {
                Event::Output(output) if cell.silent && !output.is_of_comm() => drop(output),
                Event::Output(output) => self.publish_output(output, Some(request)).await,
                Event::Done(done) => outcome = done,
                Event::Input { question, .. } if !cell.allow_stdin => question.answer(&Answer::NoInput),
                Event::Input { prompt, password, question } => {
                    // The next question ends the previous one, which has been answered or withdrawn.
                    asking = Some(Box::pin(self.put(InputRequest { prompt, password }, question, request)));
                }
            }
        }
        if counted {
            let value = outcome.as_ref().ok().and_then(Option::as_ref);
            let text = value.and_then(|data| data.iter().find(|(mime, _)| mime == "text/plain"));
            let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            history.add(count, &cell.code, text.map(|(_, text)| text.as_str()));
        }
        let mut reply = ExecuteReply { execution_count, ..ExecuteReply::default() };
        match outcome {
            Ok(None) => {}
            Ok(Some(data)) => {
                let transient = Some(Transient::default());
                publish(
                    ExecuteResult { transient, ..ExecuteResult::new(execution_count, media(&data)) }.into(),
                );
            }
            Err(CellError { name: ename, value: evalue, traceback }) => {
                reply.status = ReplyStatus::Error;
                reply.error = Some(Box::new(ReplyError {
                    ename: ename.clone(),
                    evalue: evalue.clone(),
                    traceback: traceback.clone(),
                }));
                publish(ErrorOutput { ename, evalue, traceback }.into());
            }
        }
        let expressions = cell.user_expressions.iter().flatten().filter(|_| reply.status == ReplyStatus::Ok);
        let mut values = HashMap::new();
        for (name, expression) in expressions {
            values.insert(name.clone(), self.evaluate(expression.clone(), cell.silent, request).await);
        }
        reply.user_expressions = Some(values);
        reply
    }

    /// Puts a cell's question to the user. Stop and the end of the cell also end it.
    async fn put(&self, prompt: InputRequest, question: Question, request: &JupyterMessage) {
        tokio::select! {
            answer = self.input.ask(prompt, request) => question.answer(&answer),
            () = question.is_over() => {}
        }
    }

    /// Evaluates an expression that a client requests with a cell. Outputs meanwhile, such as those of the cell's
    /// threads, are shown below the cell.
    async fn evaluate(&self, expression: String, silent: bool, request: &JupyterMessage) -> ExpressionResult {
        let mut received = self.engine.execute(expression);
        while let Some(event) = received.recv().await {
            match event {
                Event::Done(Ok(data)) => {
                    return ExpressionResult::Ok {
                        data: media(&data.unwrap_or_default()),
                        metadata: Map::new(),
                    };
                }
                Event::Done(Err(CellError { name: ename, value: evalue, traceback })) => {
                    return ExpressionResult::Error { ename, evalue, traceback };
                }
                Event::Output(output) if silent && !output.is_of_comm() => drop(output),
                Event::Output(output) => self.publish_output(output, Some(request)).await,
                Event::Input { question, .. } => question.answer(&Answer::NoInput),
            }
        }
        let CellError { name: ename, value: evalue, traceback } = CellError::engine_stopped();
        ExpressionResult::Error { ename, evalue, traceback }
    }
}

/// Reply for a cell that does not run because an earlier one failed.
pub fn aborted(count: usize) -> ExecuteReply {
    ExecuteReply {
        status: ReplyStatus::Aborted,
        execution_count: ExecutionCount::new(count),
        user_expressions: Some(HashMap::new()),
        ..ExecuteReply::default()
    }
}
