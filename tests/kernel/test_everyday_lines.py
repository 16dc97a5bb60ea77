"""rust-analyzer infers the types of everyday lines, from a short standard library without bodies."""

import re

from test_inference import lines

# Everyday code. rustc checks the type that rust-analyzer infers.
EVERYDAY = """
parsed_float: f64 = "3.5".parse::<f64>()?
parsed_single: f32 = "3.5".trim().parse::<f32>().unwrap_or(0.0)
parsed_bool: bool = "true".parse::<bool>()?
parsed_char: char = "x".parse::<char>()?
parsed_all: Vec<f64> = "1 2".split(' ').map(|x| x.parse::<f64>()).collect::<Result<Vec<_>, _>>()?
parsed_address: SocketAddr = "127.0.0.1:80".parse::<std::net::SocketAddr>()?
some_number: Option<NonZero<u32>> = std::num::NonZeroU32::new(4)
its_value: Option<u32> = std::num::NonZeroU32::new(4).map(|n| n.get())
parsed_nonzero: NonZero<u64> = "4".parse::<std::num::NonZeroU64>()?
ones: NonZero<u32> = std::num::NonZeroI16::MAX.count_ones()
threads: usize = std::thread::available_parallelism()?.get()
inode: u64 = { use std::os::unix::fs::MetadataExt; std::fs::metadata("/")?.ino() }
bytes_of_path: Vec<u8> = { use std::os::unix::ffi::OsStrExt; std::path::Path::new("/").as_os_str().as_bytes().to_vec() }
permissions: u32 = { use std::os::unix::fs::PermissionsExt; std::fs::metadata("/")?.permissions().mode() }
exit_signal: Option<i32> = { use std::os::unix::process::ExitStatusExt; std::process::Command::new("true").status()?.signal() }
descriptor: i32 = { use std::os::fd::AsRawFd; std::io::stdin().as_raw_fd() }
bits: u32 = unsafe { std::mem::transmute::<f32, u32>(1.0) }
size: usize = std::mem::size_of::<u64>()
table: HashMap<u8, char> = std::collections::HashMap::from([(1u8, 'a')])
keys: Vec<u8> = table.keys().copied().collect::<Vec<_>>()
values: Vec<String> = table.values().map(|c| c.to_string()).collect::<Vec<_>>()
entries: Vec<(u8, char)> = table.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>()
looked_up: Option<char> = table.get(&1).copied()
has_key: bool = table.contains_key(&1)
indexed: char = table[&1]
largest_key: Option<char> = table.iter().max_by_key(|(k, _)| **k).map(|(_, v)| *v)
pairs_of_table: Vec<(u8, char)> = table.clone().into_iter().collect::<Vec<_>>()
keys_owned: Vec<u8> = table.clone().into_keys().collect::<Vec<_>>()
removed: Option<char> = table.clone().remove(&1)
set: HashSet<i32> = std::collections::HashSet::from([1, 2])
in_both: Vec<i32> = set.intersection(&set).copied().collect::<Vec<_>>()
united: HashSet<i32> = set.union(&set).copied().collect::<std::collections::HashSet<_>>()
set_values: Vec<i32> = set.iter().map(|x| x * 2).collect::<Vec<_>>()
sorted: BTreeMap<i32, &str> = std::collections::BTreeMap::from([(1, "a")])
first_key: Option<i32> = sorted.first_key_value().map(|(k, _)| *k)
sorted_values: Vec<&str> = sorted.values().copied().collect::<Vec<_>>()
in_range: usize = sorted.range(..5).count()
sorted_set: BTreeSet<i32> = std::collections::BTreeSet::from([3, 1])
smallest: Option<i32> = sorted_set.iter().next().copied()
queue: VecDeque<i32> = std::collections::VecDeque::from(vec![1, 2])
front: Option<i32> = queue.front().copied()
heap: BinaryHeap<i32> = std::collections::BinaryHeap::from(vec![1, 2])
top: Option<i32> = heap.peek().copied()
counted: HashMap<char, usize> = "abca".chars().fold(std::collections::HashMap::<char, usize>::new(), |mut m, c| { *m.entry(c).or_default() += 1; m })
most_common: Option<char> = counted.iter().max_by_key(|(_, n)| **n).map(|(c, _)| *c)
words: Vec<String> = "a b".split_whitespace().map(String::from).collect::<Vec<_>>()
joined: String = words.join(", ")
letters: String = "abc".chars().rev().collect::<String>()
lines: Vec<String> = "a\\nb".lines().map(str::to_owned).collect::<Vec<_>>()
upper: String = "é".to_uppercase()
replaced: String = "abc".replace('a', "b")
found_at: Option<usize> = "abc".find('b')
split_at: Option<(String, String)> = "k=v".split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()))
char_code: u32 = 'a' as u32
from_code: Option<char> = char::from_u32(97)
digit: Option<u32> = '7'.to_digit(10)
is_letter: bool = 'a'.is_alphabetic()
bytes: Vec<u8> = "abc".as_bytes().to_vec()
text_of_bytes: String = String::from_utf8(vec![97])?
lossy: String = String::from_utf8_lossy(&[97]).into_owned()
trimmed: String = " a ".trim().to_owned()
padded: String = format!("{:>5}", 1)
root: f64 = 2f64.sqrt()
power: f64 = 2f64.powi(3) + 2f64.powf(0.5)
rounded: i64 = 2.5f64.round() as i64
trig: (f64, f64, f64) = (1f64.sin(), 1f64.atan2(2.0), std::f64::consts::PI)
clamped: i32 = 5.clamp(1, 3)
absolute: i32 = (-3i32).abs()
integer_power: u64 = 2u64.pow(10)
checked: Option<u8> = 200u8.checked_add(100)
wrapping: u8 = 200u8.wrapping_add(100)
saturating: u8 = 200u8.saturating_sub(201)
overflowing: (u8, bool) = 200u8.overflowing_add(100)
leading: u32 = 8u32.leading_zeros()
euclid: i32 = (-7i32).rem_euclid(3)
minimum: f64 = 1.5f64.min(2.0)
total: Ordering = 1.0f64.total_cmp(&2.0)
hexadecimal: i64 = i64::from_str_radix("ff", 16)?
swapped: [u8; 2] = (1u16).to_be_bytes()
converted: bool = u8::try_from(300i32).is_err()
into_float: f64 = f64::from(3u32)
squares: Vec<i32> = (1..=3).map(|x| x * x).collect::<Vec<i32>>()
product: u64 = (1..=5u64).product::<u64>()
average: f64 = [1.0, 2.0].iter().sum::<f64>() / 2.0
any_even: bool = [1, 2].iter().any(|x| x % 2 == 0)
flattened: Vec<i32> = vec![vec![1], vec![2]].into_iter().flatten().collect::<Vec<_>>()
flat_mapped: Vec<i32> = [1, 2].iter().flat_map(|x| vec![*x; 2]).collect::<Vec<_>>()
chunked: Vec<i32> = [1, 2, 3].chunks(2).map(|c| c.iter().sum::<i32>()).collect::<Vec<_>>()
windowed: Option<i32> = [1, 2, 3].windows(2).map(|w| w[0] * w[1]).max()
sorted_floats: Vec<f64> = { let mut v = vec![2.0, 1.0]; v.sort_by(|a, b| f64::partial_cmp(a, b).unwrap()); v }
deduplicated: Vec<i32> = { let mut v = vec![1, 1]; v.dedup(); v }
positions: Option<usize> = [3, 1].iter().enumerate().min_by_key(|(_, x)| **x).map(|(i, _)| i)
scanned: Vec<i32> = [1, 2].iter().scan(0, |sum, x| { *sum += x; Some(*sum) }).collect::<Vec<_>>()
taken: Vec<i32> = (0..).take_while(|x| x * x < 10).skip(1).step_by(2).collect::<Vec<i32>>()
unzipped: (Vec<i32>, Vec<char>) = [(1, 'a')].into_iter().unzip::<i32, char, Vec<_>, Vec<_>>()
chained: Vec<i32> = [1].iter().chain(&[2]).copied().collect::<Vec<_>>()
cycled: usize = [1, 2].iter().cycle().take(3).count()
reduced: Option<i32> = [1, 2].into_iter().reduce(|a, b| a + b)
peeked: Option<i32> = [1].iter().peekable().peek().map(|x| **x)
grouped: (Vec<i32>, Vec<i32>) = [1, 2, 3].iter().partition::<Vec<i32>, _>(|x| **x > 1)
last: Option<i32> = [1, 2].last().copied()
first: Option<i32> = [1, 2].first().copied()
array: [u8; 4] = [0u8; 4]
matrix: Vec<Vec<f64>> = vec![vec![0.0; 3]; 2]
mapped_array: [f64; 2] = [1, 2].map(|x| x as f64)
concatenated: Vec<i32> = [vec![1], vec![2]].concat()
repeated: String = "ab".repeat(2)
searched: Result<usize, usize> = [1, 2].binary_search(&2)
split_halves: (Vec<i32>, Vec<i32>) = { let (a, b) = [1, 2, 3].split_at(1); (a.to_vec(), b.to_vec()) }
optional: i32 = Some(1).filter(|x| *x > 0).or(Some(2)).unwrap_or_default()
zipped: Option<(i32, char)> = Some(1).zip(Some('a'))
ok_or: Result<i32, &str> = Some(1).ok_or("none")
and_then: Option<u8> = Some("1").and_then(|x| x.parse::<u8>().ok())
transposed: Result<Option<i32>, String> = Some(Ok::<_, String>(1)).transpose()
result: Result<i32, String> = "1".parse::<i32>().map(|x| x + 1).map_err(|error| error.to_string())
error_kind: Result<(), ErrorKind> = std::fs::File::open("/none").map(|_| ()).map_err(|error| error.kind())
text: String = std::fs::read_to_string("/etc/hostname").unwrap_or_default()
names: Vec<String> = std::fs::read_dir("/")?.filter_map(|entry| entry.ok()).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
path: PathBuf = std::path::Path::new("/a").join("b.txt")
extension: Option<String> = path.extension().map(|e| e.to_string_lossy().into_owned())
here: PathBuf = std::env::current_dir()?
home: Option<String> = std::env::var("HOME").ok()
variables: usize = std::env::vars().count()
output: String = String::from_utf8(std::process::Command::new("echo").arg("a").output()?.stdout)?
code: Option<i32> = std::process::Command::new("true").status()?.code()
started: Instant = std::time::Instant::now()
elapsed: f64 = started.elapsed().as_secs_f64()
epoch: u64 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs()
half_second: Duration = std::time::Duration::from_secs_f64(0.5)
joined_thread: i32 = std::thread::spawn(|| 5).join().unwrap()
scoped: i32 = std::thread::scope(|s| s.spawn(|| 1).join().unwrap())
channel: u8 = { let (send, receive) = std::sync::mpsc::channel(); send.send(1u8)?; receive.recv()? }
counter: Arc<AtomicUsize> = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(1))
loaded: usize = counter.load(std::sync::atomic::Ordering::SeqCst)
locked: i32 = *std::sync::Mutex::new(1).lock().unwrap()
read_lock: usize = std::sync::RwLock::new(vec![1]).read().unwrap().len()
once: u8 = *std::sync::OnceLock::new().get_or_init(|| 1u8)
shared: Rc<RefCell<Vec<i32>>> = std::rc::Rc::new(std::cell::RefCell::new(vec![1]))
borrowed: usize = shared.borrow().len()
cell: i32 = std::cell::Cell::new(1).get()
boxed: Box<i32> = Box::new(1)
boxed_slice: Box<[i32]> = vec![1].into_boxed_slice()
cow: String = std::borrow::Cow::from("a").into_owned()
hashed: u64 = { use std::hash::{Hash, Hasher}; let mut h = std::collections::hash_map::DefaultHasher::new(); 1.hash(&mut h); h.finish() }
type_name: &str = std::any::type_name::<u8>()
swapped_values: (i32, i32) = { let (mut a, mut b) = (1, 2); std::mem::swap(&mut a, &mut b); (a, b) }
replaced_value: Vec<i32> = std::mem::replace(&mut vec![1], vec![])
reversed_order: Reverse<i32> = std::cmp::Reverse(1)
ordered: Ordering = (1, "a").cmp(&(1, "b"))
written: Vec<u8> = { use std::io::Write; let mut v = Vec::new(); write!(v, "{}", 1)?; v }
read_line: Vec<String> = { use std::io::BufRead; std::io::Cursor::new("a\\nb").lines().collect::<Result<Vec<_>, _>>()? }
address: [u8; 4] = std::net::Ipv4Addr::LOCALHOST.octets()
formatted: String = format!("{:?} {:.2} {:#x}", Some(1), 1.234, 255)
tuple: (i32, f64, char, &str, bool) = (1, 2.0, 'c', "d", true)
nested: Vec<Option<(i32, String)>> = vec![Some((1, "a".to_owned()))]
function: fn(u32, u32) -> u32 = u32::max as fn(u32, u32) -> u32
range: Range<i32> = 0..5
inclusive: bool = (0..=5).contains(&3)
big: u128 = 1u128 << 100
"""


def test_everyday_lines_of_the_standard_library_infer(kernel):
    rows = lines(EVERYDAY)
    for at in range(0, len(rows), 40):
        kernel.ok("\n".join(f"let mut {name} = {code};" for name, _, code in rows[at : at + 40]))
    found = dict(line.split(": ", 1) for line in kernel.ok(":vars").strip().splitlines())
    short = {name: re.sub(r"(\w+::)+", "", kind) for name, kind in found.items()}
    assert {name: short.get(name) for name, _, _ in rows} == {name: kind for name, kind, _ in rows}
