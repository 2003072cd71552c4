import t from 'tap'
import { formatHcl } from '../../src/runtime/format-hcl.ts'
import { parseHcl } from '../../src/runtime/hcl-text.ts'

void t.test('HCL that reads back as what was written', async t => {
  const values = {
    text: 'quotes " and \\ and\nlines\ttoo', number: 1.5, negative: -3, yes: true, list: ['a', 1, [true]],
    map: { a: { b: 'c' }, empty: {} },
    'a key that is no word': 1, 'with "quotes"': 'x', list_of_maps: [{ a: 1 }, { b: 2 }]
  }
  const read = parseHcl('f', formatHcl(values))
  if ('problems' in read) throw new Error(JSON.stringify(read.problems))
  t.strictSame(JSON.parse(JSON.stringify(read[0]?.raw)), values)
  t.equal(formatHcl({ a: '${x}', b: '\b\f' }), 'a = "\\u0024{x}"\nb = "\\u0008\\u000c"\n', 'nothing is taken for an interpolation')
  t.equal(formatHcl({}), '')
})

void t.test('what HCL has no word for', async t => {
  t.throws(() => formatHcl({ a: { b: [null] } }), { message: 'a.b.0 is no text, number, true, false, list or map' })
  t.throws(() => formatHcl({ a: Number.NaN }), { name: 'TypeError' })
  let deep: unknown = 1
  for (let level = 0; level < 40; level++) deep = { deep }
  t.throws(() => formatHcl({ deep }), /nested too deeply/)
})
