use super::*;

#[test]
fn variable_is_returned_unchanged() {
    let mut store = VariableStore::default();
    store.put_variable("n", vec![1, 2]);
    assert!(store.check_variable::<Vec<i32>>("n"));
    assert!(!store.check_variable::<Vec<u8>>("n") && !store.check_variable::<u8>("m"));
    assert_eq!(store.take_variable::<Vec<i32>>("n"), [1, 2]);
}

#[test]
fn a_variable_of_another_layout_is_lost() {
    let mut store = VariableStore { layouts: [&[], &[("n", 1)]], ..VariableStore::default() };
    store.put_variable("n", 2);
    let cells: [(Layouts, bool); 3] = [(&[("n", 1)], true), (&[("n", 2)], false), (&[], false)];
    for (layouts, expected) in cells {
        store.layouts = [layouts, &[]];
        assert_eq!(store.check_variable::<i32>("n"), expected);
    }
}

#[test]
fn shared_value_is_created_once() {
    let mut store = VariableStore::default();
    let first = store.lazy_arc("a", || 1);
    assert!(Arc::ptr_eq(&first, &store.lazy_arc("a", || 2)));
    assert_eq!(*store.lazy_arc("a", || "of another type"), "of another type");
    assert_eq!(*store.lazy_arc("a", || "new"), "of another type");
}

#[test]
fn run_cell_returns_whether_the_cell_succeeded() {
    assert!(run_cell(|| Ok::<(), ()>(())));
    assert!(!run_cell(|| Err(())));
    assert!(!run_cell(|| -> Result<(), ()> { panic!("a cell's panic") }));
    assert!(run_alone(&mut VariableStore::default(), |_| Ok::<(), ()>(())));
}

#[test]
fn a_future_is_driven_by_its_waker() {
    let (send, receive) = std::sync::mpsc::channel::<Waker>();
    let waking = std::thread::spawn(move || receive.iter().for_each(|waker| waker.wake()));
    let mut polls = 0;
    let counted = std::future::poll_fn(|context| {
        polls += 1;
        send.send(context.waker().clone()).unwrap();
        if polls == 3 { Poll::Ready(Ok::<(), ()>(())) } else { Poll::Pending }
    });
    assert!(run_async(&(), std::pin::pin!(counted)));
    assert!(!run_async(&(), std::pin::pin!(async { Err::<(), ()>(()) })));
    assert!(!run_async(
        &(),
        std::pin::pin!(async { if true { panic!("a cell's panic") } else { Ok::<(), ()>(()) } })
    ));
    assert_eq!(polls, 3);
    drop(send);
    waking.join().unwrap();
}

#[test]
fn a_saved_value_is_restored() {
    save("n", vec![1]);
    assert_eq!(restore::<Vec<i32>>("n"), [1]);
}

#[test]
fn each_variable_is_dropped_although_a_destructor_panics() {
    struct Guard(std::sync::mpsc::Sender<u8>, u8);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.send(self.1).unwrap();
            assert!(self.1 != 1, "a destructor's panic");
        }
    }
    let (send, dropped) = std::sync::mpsc::channel();
    let mut store = VariableStore::default();
    for (name, number) in [("b", 2), ("a", 1), ("evcxr_tokio_runtime", 3)] {
        store.put_variable(name, Guard(send.clone(), number));
    }
    store.drop_all();
    assert_eq!(dropped.try_iter().collect::<Vec<_>>(), [1, 2]);
}

#[test]
#[should_panic(expected = "`n` does not exist")]
fn missing_variable_cannot_be_taken() {
    VariableStore::default().take_variable::<i32>("n");
}
