//! Comms: channels between objects of the cells, such as widgets, and their views in the clients.
//!
//! The kernel keeps a copy of each widget's state. So a page that is loaded again gets the state, even while a
//! cell runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use headstart_frame::Frame;
use jupyter_protocol::{CommClose, CommId, CommInfo, CommInfoReply, CommMsg, CommOpen, JupyterMessage};
use serde_json::{Map, Value, json};

use crate::jupyter::wire::message;

/// Model of a widget whose value, the uploaded files, is not sent to other clients.
const UPLOAD_MODEL: &str = "FileUploadModel";

/// An open comm.
struct Comm {
    target: String,
    /// Values of the widget's state, without its binary parts.
    state: Map<String, Value>,
    /// Binary parts of the state: path and content.
    buffers: Vec<(Value, Bytes)>,
    /// Request of the cell that opened it.
    parent: Option<JupyterMessage>,
}

/// The open comms by name.
#[derive(Default)]
pub struct Comms(Mutex<BTreeMap<String, Comm>>);

impl Comms {
    fn comms(&self) -> MutexGuard<'_, BTreeMap<String, Comm>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Request of the cell that opened a comm.
    pub fn parent(&self, id: &str) -> Option<JupyterMessage> {
        self.comms().get(id)?.parent.clone()
    }

    /// Reply to a request for the open comms.
    pub fn info(&self, target: Option<&str>) -> CommInfoReply {
        let comms = self.comms();
        let wanted = comms.iter().filter(|(_, comm)| target.is_none_or(|target| target == comm.target));
        let entry = |(id, comm): (&String, &Comm)| {
            (CommId(id.clone()), CommInfo { target_name: comm.target.clone() })
        };
        CommInfoReply { comms: wanted.map(entry).collect::<HashMap<_, _>>(), ..CommInfoReply::default() }
    }

    /// Converts a frame of the cells to the message for the clients. `None` if its content is not JSON.
    pub fn to_clients(&self, frame: Frame, parent: Option<&JupyterMessage>) -> Option<JupyterMessage> {
        let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).ok();
        match frame {
            Frame::CommOpen { id, target, data, metadata, buffers } => {
                let (data, buffers) = (object(&data)?, decoded(&buffers));
                let mut comm = Comm {
                    target: target.clone(),
                    state: Map::new(),
                    buffers: Vec::new(),
                    parent: parent.cloned(),
                };
                comm.merge(&data, &buffers);
                self.comms().insert(id.clone(), comm);
                let open = CommOpen { comm_id: CommId(id), target_name: target, data, target_module: None };
                let metadata = object(&metadata).map_or(json!({}), Value::Object);
                Some(message(open, parent).with_metadata(metadata).with_buffers(buffers))
            }
            Frame::CommMessage { id, data, buffers } => {
                let (data, buffers) = (object(&data)?, decoded(&buffers));
                if let Some(comm) = self.comms().get_mut(&id) {
                    comm.merge(&data, &buffers);
                }
                Some(message(CommMsg { comm_id: CommId(id), data }, parent).with_buffers(buffers))
            }
            Frame::CommClose { id } => {
                self.comms().remove(&id);
                Some(close(id, parent))
            }
            _ => None,
        }
    }

    /// Closes all comms, because the process of the cells has ended.
    pub fn end(&self) -> Vec<JupyterMessage> {
        let ended = std::mem::take(&mut *self.comms());
        ended.into_iter().map(|(id, comm)| close(id, comm.parent.as_ref())).collect()
    }

    /// Handles a client's message to a comm: returns the answer to a request for its state, or the frame for
    /// the cells.
    pub fn to_cells(
        &self,
        received: &CommMsg,
        request: &JupyterMessage,
    ) -> Result<Frame, Box<JupyterMessage>> {
        let mut comms = self.comms();
        let id = &received.comm_id.0;
        let Some(comm) = comms.get_mut(id) else {
            return Err(Box::new(close(id.clone(), Some(request))));
        };
        if received.data.get("method").is_some_and(|method| method == "request_state") {
            let paths: Vec<&Value> = comm.buffers.iter().map(|(path, _)| path).collect();
            let data = json!({"method": "update", "state": comm.state, "buffer_paths": paths});
            let data = data.as_object().cloned().unwrap_or_default();
            let buffers = comm.buffers.iter().map(|(_, content)| content.clone()).collect();
            let update = CommMsg { comm_id: received.comm_id.clone(), data };
            return Err(Box::new(message(update, Some(request)).with_buffers(buffers)));
        }
        comm.merge(&received.data, &request.buffers);
        Ok(Frame::CommMessage {
            id: id.clone(),
            data: Value::Object(received.data.clone()).to_string(),
            buffers: request.buffers.iter().map(|buffer| STANDARD.encode(buffer)).collect(),
        })
    }

    /// The message that tells all clients of a change that one of them has made, as ipywidgets sends it. `None` if the
    /// message is no change.
    pub fn echo(&self, asked: &CommMsg, request: &JupyterMessage) -> Option<JupyterMessage> {
        if asked.data.get("method")? != "update" {
            return None;
        }
        let mut state = asked.data.get("state")?.as_object()?.clone();
        let paths = asked.data.get("buffer_paths").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut parts: Vec<(Value, Bytes)> = paths.into_iter().zip(request.buffers.iter().cloned()).collect();
        let model = self.comms().get(&asked.comm_id.0)?.state.get("_model_name").cloned();
        if model.is_some_and(|model| model == UPLOAD_MODEL) {
            // The files stay with the client that has uploaded them.
            state.remove("value");
            parts.retain(|(path, _)| path[0] != "value");
        }
        if state.is_empty() && parts.is_empty() {
            return None;
        }
        let (paths, buffers): (Vec<Value>, Vec<Bytes>) = parts.into_iter().unzip();
        let data = json!({"method": "echo_update", "state": state, "buffer_paths": paths});
        let data = data.as_object().cloned().unwrap_or_default();
        let echo = CommMsg { comm_id: asked.comm_id.clone(), data };
        Some(message(echo, Some(request)).with_buffers(buffers))
    }

    /// Handles a client that closes a comm. Returns the frame for the cells.
    pub fn closed_by_client(&self, id: &str) -> Option<Frame> {
        self.comms().remove(id).map(|_| Frame::CommClose { id: id.to_owned() })
    }
}

impl Comm {
    /// Updates the state from a message.
    fn merge(&mut self, data: &Map<String, Value>, buffers: &[Bytes]) {
        let Some(state) = data.get("state").and_then(Value::as_object) else { return };
        let paths = data.get("buffer_paths").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_replaced = |path: &Value| {
            let key = path[0].as_str().unwrap_or_default();
            state.contains_key(key) || paths.iter().any(|new| new[0] == path[0])
        };
        self.buffers.retain(|(path, _)| !is_replaced(path));
        self.state.extend(state.iter().map(|(key, value)| (key.clone(), value.clone())));
        self.buffers.extend(paths.into_iter().zip(buffers.iter().cloned()));
    }
}

fn decoded(buffers: &[String]) -> Vec<Bytes> {
    buffers.iter().map(|buffer| STANDARD.decode(buffer).unwrap_or_default().into()).collect()
}

fn close(id: String, parent: Option<&JupyterMessage>) -> JupyterMessage {
    message(CommClose { comm_id: CommId(id), ..CommClose::default() }, parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(comms: &Comms, id: &str) -> (Value, Vec<Bytes>) {
        let data = json!({"method": "request_state"}).as_object().cloned().unwrap();
        let received = CommMsg { comm_id: CommId(id.into()), data };
        let request = message(received.clone(), None);
        let answer = comms.to_cells(&received, &request).unwrap_err();
        match answer.content {
            jupyter_protocol::JupyterMessageContent::CommMsg(update) => {
                (Value::Object(update.data), answer.buffers)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_change_by_one_client_is_sent_to_all() {
        let comms = Comms::default();
        for (id, model) in [("slider", "IntSliderModel"), ("upload", "FileUploadModel")] {
            let open = Frame::CommOpen {
                id: id.into(),
                target: "jupyter.widget".into(),
                data: json!({"state": {"_model_name": model}}).to_string(),
                metadata: "{}".into(),
                buffers: Vec::new(),
            };
            comms.to_clients(open, None).unwrap();
        }
        let echo = |id: &str, data: Value| {
            let asked = CommMsg { comm_id: CommId(id.into()), data: data.as_object().cloned().unwrap() };
            let request = message(asked.clone(), None).with_buffers(vec![Bytes::from_static(b"file")]);
            let echo = comms.echo(&asked, &request)?;
            assert!(echo.parent_header.is_some());
            match echo.content {
                jupyter_protocol::JupyterMessageContent::CommMsg(echo) => Some(Value::Object(echo.data)),
                other => panic!("{other:?}"),
            }
        };
        let moved = json!({"method": "update", "state": {"value": 2}});
        let expected = json!({"method": "echo_update", "state": {"value": 2}, "buffer_paths": []});
        assert_eq!(echo("slider", moved.clone()), Some(expected));
        let paths = json!([["value", 0, "content"]]);
        let uploaded = |state: Value| json!({"method": "update", "state": state, "buffer_paths": paths});
        let expected = json!({"method": "echo_update", "state": {"error": ""}, "buffer_paths": []});
        assert_eq!(echo("upload", uploaded(json!({"value": [{}], "error": ""}))), Some(expected));
        assert_eq!(echo("upload", uploaded(json!({"value": [{}]}))), None);
        assert_eq!(echo("slider", json!({"method": "custom", "content": {"event": "click"}})), None);
        assert_eq!(echo("none", moved), None);
    }

    #[test]
    fn the_state_is_kept_for_pages_that_are_loaded_again() {
        let comms = Comms::default();
        let open = Frame::CommOpen {
            id: "a".into(),
            target: "jupyter.widget".into(),
            data: json!({"state": {"value": 1, "min": 0}, "buffer_paths": [["image"]]}).to_string(),
            metadata: "{}".into(),
            buffers: vec![STANDARD.encode("old")],
        };
        assert_eq!(comms.to_clients(open, None).unwrap().buffers, ["old"]);
        let data = json!({"method": "update", "state": {"value": 2}, "buffer_paths": [["image"]]});
        let data = data.as_object().cloned().unwrap();
        let received = CommMsg { comm_id: CommId("a".into()), data };
        let request = message(received.clone(), None).with_buffers(vec![Bytes::from_static(b"new")]);
        let sent = comms.to_cells(&received, &request).ok().unwrap();
        assert!(matches!(sent, Frame::CommMessage { buffers, .. } if buffers == [STANDARD.encode("new")]));
        let (data, buffers) = state(&comms, "a");
        assert_eq!(
            (&data["state"], &data["buffer_paths"]),
            (&json!({"value": 2, "min": 0}), &json!([["image"]]))
        );
        assert_eq!(buffers, ["new"]);
        assert_eq!(comms.info(Some("jupyter.widget")).comms.len(), 1);
        assert_eq!(comms.info(Some("other")).comms.len(), 0);
        assert_eq!(comms.end().len(), 1);
        assert_eq!(comms.info(None).comms.len(), 0);
    }
}
