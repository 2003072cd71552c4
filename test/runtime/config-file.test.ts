import fc from 'fast-check'
import t from 'tap'
import { z } from 'zod'
import { expandEnvironment, formatProblems, readConfig } from '../../src/runtime/config-file.ts'
import { anyText, jsonObject, secret } from '../fakes/arbitraries.ts'
import { holds } from '../fakes/holds.ts'

const anything = z.unknown()
const numbers = z.strictObject({ a: z.number(), b: z.strictObject({ c: z.array(z.number()) }).optional() })
const read = (schema: z.ZodType, text: string) => readConfig(schema, { file: { name: 'f.yaml', text } })

/** Pieces of YAML, so that arbitrary texts get past the first character. */
const yamlish = fc.array(fc.oneof(
  fc.constantFrom('a: ', 'b:\n', '  ', '- ', '\n', '{', '}', '[', ']', '&x ', '*x', '!!js ', '"', '\'', '#'),
  fc.constantFrom('|', '>', '---\n', '? ', '<<: ', '1', '\t'),
  anyText
), { maxLength: 20 }).map(parts => parts.join(''))

void t.test('a configuration file is read or refused, whatever is in it', async t => {
  for (const text of [anyText, yamlish]) {
    await holds(t, 'a value or problems that say where and what, never a crash', fc.property(text, text => {
      for (const schema of [anything, numbers]) {
        const reading = read(schema, text)
        if (reading.value !== undefined) continue
        const { problems } = reading as { problems: readonly { where: string, rule: string }[] }
        if (problems.length === 0 || problems.some(({ where, rule }) => !/^f\.yaml(:\d+)?$/.test(where) || rule === '')) {
          throw new Error(JSON.stringify(problems))
        }
      }
    }))
  }
  await holds(t, 'JSON is YAML', fc.property(jsonObject, object => {
    const { value } = read(anything, JSON.stringify(object))
    return JSON.stringify(value) === JSON.stringify(object)
  }))
  for (const name of ['__proto__', 'constructor', 'toString']) {
    t.match(read(numbers, `a: 1\n${name}: { c: 1 }`), { problems: [{ where: 'f.yaml:2', key: name, rule: /^unknown key; / }] }, name)
  }
  await holds(t, 'a value of the wrong kind is not repeated: it may be secret', fc.property(secret, secret => {
    const { problems } = read(numbers, `a: ${secret}\nb: { c: [${secret}, 1] }`) as { problems: Parameters<typeof formatProblems>[0] }
    return problems.length === 2 && !formatProblems(problems).includes(secret)
  }))
  await holds(t, 'an override wins over the file and over nothing', fc.property(fc.option(fc.integer()), fc.integer(), (written, given) => {
    const file = written === null ? undefined : { name: 'f.yaml', text: `a: ${written}` }
    const { value } = readConfig(numbers, { file, overrides: [{ path: ['a'], value: given, from: '-a' }] })
    return value?.a === given
  }))
})

void t.test('variables of the environment are put in', async t => {
  const value = anyText
  const name = fc.string({ unit: fc.constantFrom(...Array.from('ABC_abc123')), minLength: 1, maxLength: 5 }).map(text => `V${text}`)
  const plain = anyText.map(text => text.replaceAll('$', ''))
  await holds(t, 'text without $ stays', fc.property(plain, text => expandEnvironment(text, { A: 'x' }) === text))
  await holds(t, '$$ is a dollar sign', fc.property(value, text => expandEnvironment(text.replaceAll('$', '$$$$'), {}) === text))
  await holds(t, 'a value is put in as it is, dollar signs too', fc.property(name, value, plain, plain, (name, value, before, after) =>
    expandEnvironment(`${before}\${${name}}${after}`, { [name]: value }) === before + value + after))
  await holds(t, 'without braces a name ends where words end', fc.property(name, value, (name, value) =>
    expandEnvironment(`$${name}-$${name}`, { [name]: value }) === `${value}-${value}`))
  await holds(t, 'an unset one is empty, one of the prototype too', fc.property(name, name =>
    expandEnvironment(`<\${${name}}$${name}>`, {}) === '<>'))
  t.equal(expandEnvironment('$constructor ${__proto__} ${toString}', {}), '  ')
  t.equal(expandEnvironment('$ ${} ${a-b} $1', {}), '$ ${} ${a-b} $1', 'what is no name stays')
})
