#!/usr/bin/env python3
"""The import graph of the library and its member crates, file by file.

    .ci/modules.py            check: imports go down the layers and in no circle, plans are pure, SDK types
                              stay in the wire layer
    .ci/modules.py --map      print who imports whom

A file imports another where a path in it begins with `crate`, `self` or `super` and names an item of the
other's module; an import of a re-exported name counts for the file that defines it. Comments, literals and
test modules are left out. That one crate does not reach into another is kept by the compiler.
"""
import os, re, sys, collections

# Lowest first: a file imports its own layer and lower ones.
LAYERS = [
    "error id locks name clock pace telemetry tar_sum_claim",
    "contract",
    "s3::keyed_lock s3::wire s3::format",
    "s3::bucket s3::budget",
    "s3::session",
    "s3::relay s3::names s3::publish s3::read s3::commit",
    "s3::upload s3::repositories s3::maintenance s3::doctor s3::secret",
]
# The SDK is named here only.
SDK = re.compile(r"(?<!:)\baws_(?:sdk|smithy|config|credential|types)\w*::")
SDK_PLACES = ("src/s3/wire/", "src/s3/mod.rs", "src/lib.rs", "crates/embedded-s3/src/checksum.rs", "crates/embedded-s3/src/connector.rs")
# What a module called `plan` never does.
IMPURE = re.compile(r"\b(?:async|await|tokio|Instant::now|SystemTime::now)\b|\bcrate::clock\b")

def files(root):
    for folder, _, names in os.walk(root):
        for name in names:
            if name.endswith('.rs'):
                yield os.path.join(folder, name)

def module_of(root, path):
    parts = os.path.relpath(path, root)[:-3].split('/')
    if parts[-1] in ('mod', 'lib', 'main'):
        parts.pop()
    return tuple(parts)

TOKEN = re.compile(
    r"//[^\n]*|/\*.*?\*/|b?r(#*)\".*?\"\1|b?\"(?:\\.|[^\"\\])*\"|b?'(?:\\.[^']*|[^'\\])'", re.S
)

def strip(text):
    """without comments, literals, and what comes after the first test module"""
    return TOKEN.sub('_', text).split('#[cfg(test)]')[0]

def expand(path):
    """the paths of one `a::{b, c::{d}}`"""
    path = path.strip()
    brace = path.find('{')
    if brace < 0:
        return [re.sub(r'\s+as\s+\w+$', '', path)]
    if path.count('{') != path.count('}'): return []
    head, body, depth, item, out = path[:brace], path[brace + 1:path.rindex('}')], 0, '', []
    for char in body + ',':
        if char == ',' and depth == 0:
            if item.strip():
                out += [head + tail for tail in expand(item)]
            item = ''
        else:
            depth += {'{': 1, '}': -1}.get(char, 0)
            item += char
    return out

USE = re.compile(r'(?m)^\s*(?P<pub>pub(?:\([^)]*\))?\s+)?use\s+(?P<path>[^;]+);')
PATH = re.compile(r'\b(?:crate|super|self)(?:::\w+)+')

class Crate:
    def __init__(self, root):
        self.root = root
        self.of_module = {module_of(root, path): path for path in files(root) if '/tests' not in path}
        self.text = {path: strip(open(path).read()) for path in self.of_module.values()}
        self.reexports = {}
        for module, path in self.of_module.items():
            names = {}
            for use in USE.finditer(self.text[path]):
                if use['pub']:
                    for full in expand(use['path']):
                        target = self.absolute(module, full)
                        if target:
                            names[full.rsplit('::', 1)[-1]] = target
            self.reexports[module] = names

    def absolute(self, module, path):
        parts = [part.strip() for part in path.split('::')]
        if parts[0] == 'crate':
            return tuple(parts[1:])
        if parts[0] == 'self':
            return module + tuple(parts[1:])
        if parts[0] == 'super':
            up = 0
            while parts and parts[0] == 'super':
                parts.pop(0); up += 1
            return module[:len(module) - up] + tuple(parts)
        if module + (parts[0],) in self.of_module:
            return module + tuple(parts)
        return None

    def resolve(self, path, seen=()):
        """the file that defines what a path names"""
        for length in range(len(path), -1, -1):
            module = path[:length]
            if module in self.of_module:
                rest = path[length:]
                if rest and rest[0] in self.reexports[module] and (module, rest[0]) not in seen:
                    return self.resolve(self.reexports[module][rest[0]] + rest[1:], seen + ((module, rest[0]),))
                return self.of_module[module]
        return None

    def edges(self):
        graph = collections.defaultdict(set)
        for module, path in self.of_module.items():
            text = self.text[path]
            found = []
            for use in USE.finditer(text):
                if not use['pub']:
                    found += expand(use['path'])
            found += PATH.findall(USE.sub('', text))
            for full in found:
                target = self.absolute(module, full)
                if target is None:
                    continue
                file = self.resolve(target)
                if file and file != path:
                    graph[path].add(file)
        return graph

def components(graph):
    """Tarjan's strongly connected components"""
    index, low, stack, on, out, counter = {}, {}, [], set(), [], [0]
    def visit(node):
        work = [(node, iter(sorted(graph[node])))]
        index[node] = low[node] = counter[0]; counter[0] += 1; stack.append(node); on.add(node)
        while work:
            at, following = work[-1]
            for to in following:
                if to not in index:
                    index[to] = low[to] = counter[0]; counter[0] += 1; stack.append(to); on.add(to)
                    work.append((to, iter(sorted(graph[to])))); break
                if to in on:
                    low[at] = min(low[at], index[to])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[at])
                if low[at] == index[at]:
                    group = []
                    while True:
                        top = stack.pop(); on.discard(top); group.append(top)
                        if top == at: break
                    if len(group) > 1: out.append(sorted(group))
    for node in sorted(graph):
        if node not in index: visit(node)
    return out

def check_layers(crate, graph):
    layer = {tuple(name.split('::')): height for height, names in enumerate(LAYERS) for name in names.split()}
    def height(path):
        module = module_of(crate.root, path)
        return max((h for name, h in layer.items() if module[:len(name)] == name), default=None)
    for path in sorted(graph):
        for to in sorted(graph[path]):
            low, high = height(path), height(to)
            if low is not None and high is not None and high > low:
                yield f'{path} imports {to}, which is in a higher layer'

def check_cycles(graph):
    for group in components(graph):
        yield 'files import each other in a circle:'
        for path in group:
            yield f"    {path} -> {', '.join(sorted(graph[path] & set(group)))}"

def check_text(crate):
    for path, text in sorted(crate.text.items()):
        if SDK.search(text) and not path.startswith(SDK_PLACES):
            yield f'{path} names {SDK.search(text)[0]}, which belongs in src/s3/wire'
        impure = IMPURE.search(text)
        if impure and 'plan' in module_of(crate.root, path):
            yield f'{path} is a plan and has {impure[0]}'

def main():
    wrong = []
    roots = ['src'] + sorted(os.path.join('crates', name, 'src') for name in os.listdir('crates'))
    for root in roots:
        crate = Crate(root)
        graph = crate.edges()
        wrong += check_text(crate)
        if root == 'src':
            wrong += check_layers(crate, graph)
        if '--map' in sys.argv:
            for path in sorted(graph):
                print(path, '->', ', '.join(sorted(graph[path])))
        wrong += check_cycles(graph)
    print('\n'.join(wrong))
    sys.exit(1 if wrong else 0)

main()
