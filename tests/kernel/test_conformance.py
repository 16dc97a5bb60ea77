"""Jupyter's own test suite for kernels."""

import jupyter_kernel_test


class HeadstartConformance(jupyter_kernel_test.KernelTests):
    kernel_name = "headstart"
    language_name = "rust"
    file_extension = ".rs"
    code_hello_world = 'println!("hello, world");'
    code_stderr = 'eprintln!("oops");'
    code_generate_error = 'panic!("on purpose");'
    completion_samples = [{"text": "Vgg1", "matches": {"Vgg16", "Vgg16Bn"}}, {"text": "Vgg16::ne", "matches": {"new("}}]
    complete_code_samples = ["1 + 1", "fn f() {\n}", 'let s = "{";', ":vars"]
    incomplete_code_samples = ["fn f() {", 'let s = "', "/* ", "f(1,"]
    invalid_code_samples = ["}", "(]"]
    code_execute_result = [{"code": "6 * 7", "result": "42"}]
    code_display_data = [{"code": 'display(&Text::new("shown"));', "mime": "text/plain"}]
    code_inspect_sample = "Vgg16"
    code_history_pattern = "6*7"
    supported_history_operations = ("tail", "range", "search")
    code_clear_output = "clear_output(false);"

    test_pager = None  # The kernel has no pager.
