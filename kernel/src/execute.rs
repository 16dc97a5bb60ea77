//! The running of a cell, told to everyone who listens.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use jupyter_protocol::{
    DisplayData, ErrorOutput, ExecuteInput, ExecuteReply, ExecuteRequest, ExecuteResult, ExecutionCount,
    JupyterMessage, JupyterMessageContent, Media, ReplyError, ReplyStatus, StreamContent, Transient,
    UpdateDisplayData,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

use crate::dispatch::Kernel;
use crate::output::{Bundle, CellError, Event, Outcome, Output};

impl Kernel {
    /// Runs a cell, publishes what it puts out, and says how it ended.
    pub async fn execute(&self, asked: &ExecuteRequest, request: &JupyterMessage) -> ExecuteReply {
        let counted = asked.store_history && !asked.silent;
        let count = self.count.fetch_add(usize::from(counted), Ordering::SeqCst) + usize::from(counted);
        let execution_count = ExecutionCount::new(count);
        let publish = |content: JupyterMessageContent| {
            if !asked.silent {
                self.publisher.publish(content, Some(request));
            }
        };
        publish(ExecuteInput { code: asked.code.clone(), execution_count }.into());
        let (events, mut received) = unbounded_channel();
        self.engine.execute(asked.code.clone(), events);
        let mut outcome: Outcome =
            Err(CellError::new("EngineError", "the engine stopped before the cell was over"));
        while let Some(event) = received.recv().await {
            match event {
                Event::Output(output) => publish(content(output)),
                Event::Done(done) => outcome = done,
            }
        }
        let mut reply = ExecuteReply {
            execution_count,
            user_expressions: Some(HashMap::new()),
            ..ExecuteReply::default()
        };
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
        reply
    }
}

/// The reply to a cell that does not run because one before it failed.
pub fn aborted(count: usize) -> ExecuteReply {
    ExecuteReply {
        status: ReplyStatus::Aborted,
        execution_count: ExecutionCount::new(count),
        user_expressions: Some(HashMap::new()),
        ..ExecuteReply::default()
    }
}

fn content(output: Output) -> JupyterMessageContent {
    match output {
        Output::Stdout(text) => StreamContent::stdout(&text).into(),
        Output::Stderr(text) => StreamContent::stderr(&text).into(),
        Output::Display { id, data } => {
            let transient = Some(Transient { display_id: Some(id) });
            DisplayData { transient, ..DisplayData::new(media(&data)) }.into()
        }
        Output::Update { id, data } => UpdateDisplayData::new(media(&data), &id).into(),
    }
}

/// A bundle in the protocol's form. Types that carry JSON are parsed, as the protocol has it.
pub fn media(data: &Bundle) -> Media {
    let is_json = |mime: &str| mime == "application/json" || mime.ends_with("+json");
    let value = |mime: &str, content: &str| match is_json(mime) {
        true => serde_json::from_str(content).unwrap_or_else(|_| json!(content)),
        false => json!(content),
    };
    let bundle: serde_json::Map<String, Value> =
        data.iter().map(|(mime, content)| (mime.clone(), value(mime, content))).collect();
    serde_json::from_value(Value::Object(bundle)).unwrap_or_default()
}
