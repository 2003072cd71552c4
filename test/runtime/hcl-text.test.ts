import t from 'tap'
import { parseHcl } from '../../src/runtime/hcl-text.ts'

function read (text: string): unknown {
  const documents = parseHcl('a.conf', text)
  if ('problems' in documents) return documents.problems
  return JSON.parse(JSON.stringify(documents[0]?.raw))
}

void t.test('HCL as SPIRE\'s files are written', async t => {
  t.same(read(`
    # a comment
    log_level = "debug" // another
    domains = ["a.test", "b.test",]
    server_api { address = "unix:///run/api.sock" } /* and
    a third */
    "quoted" = true
    numbers { whole = 8008 negative = -3 part = 1.5 }
    inline = { a = 1, b = false }
    plugins {
      NodeAttestor "join_token" { plugin_data {} }
      NodeAttestor "other" { plugin_data { list = [{ a = "b" }, [1, 2]] } }
    }
    mode = 0600
    escaped = "a\\"b\\\\c\\n$HOME"
  `), {
    log_level: 'debug', domains: ['a.test', 'b.test'], server_api: { address: 'unix:///run/api.sock' }, quoted: true,
    numbers: { whole: 8008, negative: -3, part: 1.5 }, inline: { a: 1, b: false },
    plugins: { NodeAttestor: { join_token: { plugin_data: {} }, other: { plugin_data: { list: [{ a: 'b' }, [1, 2]] } } } },
    mode: '0600', escaped: 'a"b\\c\n$HOME'
  })
  t.same(read(''), {}, 'an empty file says nothing')
  t.same(read('__proto__ = "x"'), JSON.parse('{"__proto__": "x"}'), 'TS-03 names are only names')
})

void t.test('what is no HCL is refused, with its line', async t => {
  const refused: Readonly<Record<string, readonly [string, number]>> = {
    'a = 1\na = 2': ['the same key twice in one map', 2],
    'a { b = 1 }\na { c = 1 }': ['the same key twice in one map', 2],
    'a "x" {}\na "x" {}': ['the same key twice in one map', 2],
    'a = 1\na "x" {}': ['the same key twice in one map', 2],
    'a {\nb = 1\n': ['a block has no end', 3],
    'a = [1 2]': ['expected a comma or the end of the list', 1],
    'a = "x\n"': ['a text has no closing quote', 1],
    'a = "x\\q"': ['a text has an unknown escape', 1],
    // eslint-disable-next-line no-template-curly-in-string
    'a = "${b}"': ['${…} is not replaced here: see -expandEnv', 1],
    'a = <<EOF\nx\nEOF': ['heredocs are not read: write the text in quotes', 1],
    'a = b': ['a value is no text in quotes, number, true, false, list or map', 1],
    'a = 08': ['a value is no text in quotes, number, true, false, list or map', 1],
    'a =': ['a value is no text in quotes, number, true, false, list or map', 1],
    'a': ['a key is followed by neither = nor a block', 1],
    '}': ['expected a key', 1],
    '/* x': ['a comment has no end', 1]
  }
  for (const [text, [rule, line]] of Object.entries(refused)) t.same(read(text), [{ where: `a.conf:${line}`, rule }], JSON.stringify(text))
  t.match(read('a = '.concat('['.repeat(1_000))), [{ rule: 'nested too deeply' }])
  t.match(read('a { '.repeat(1_000)), [{ rule: 'nested too deeply' }])
})

void t.test('each key knows its line', async t => {
  const documents = parseHcl('a.conf', 'a = 1\nb {\n  c = [\n    "x",\n    "y"\n  ]\n}\n')
  const where = (...path: PropertyKey[]) => 'problems' in documents ? documents.problems : documents[0]?.where(path)
  t.same([where('a'), where('b', 'c'), where('b', 'c', 1), where('b', 'unknown'), where()],
    ['a.conf:1', 'a.conf:3', 'a.conf:5', 'a.conf:2', 'a.conf:1'])
})
