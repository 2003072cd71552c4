import { isAbsolute, resolve } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { parseDatastoreUrl } from '../../src/storage/datastore-url.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { anyText, secret } from '../fakes/arbitraries.ts'
import { holds, unlessRefused } from '../fakes/holds.ts'

const scheme = fc.constantFrom('postgres', 'PostgreSQL', 'sqlite', 'SQLITE', 'mysql', 'http', 'file', 'c', '')
const separator = fc.constantFrom('://', ':///', ':/', ':', '', '//')
const urlish = fc.tuple(scheme, separator, anyText).map(parts => parts.join(''))

void t.test('where the database is', async t => {
  await holds(t, 'a database of either kind or a refusal, never a crash', fc.property(fc.oneof(anyText, urlish), text => {
    const target = unlessRefused('config_invalid', () => parseDatastoreUrl(text))
    if (target === undefined) return true
    return target.kind === 'postgres'
      ? target.address.targets.length > 0 && /^postgres(ql)?:\/\//i.test(text)
      : isAbsolute(target.file) && !target.file.includes('\0')
  }), 3_000)
  const path = anyText.filter(text => !text.includes('\0')).map(text => `/${text}`)
  await holds(t, 'an absolute path is the same with and without its scheme', fc.property(path.filter(path => path !== '/'), path => {
    const target = { kind: 'sqlite', file: resolve(path) }
    return [path, `sqlite://${path}`].every(text => JSON.stringify(parseDatastoreUrl(text)) === JSON.stringify(target))
  }))
  const foreign = fc.constantFrom('mysql', 'postgres+x', 'https', 'postgres:/', 'postgresql:')
  await holds(t, 'a refusal shows no password', fc.property(foreign, secret, (scheme, password) => {
    try {
      return parseDatastoreUrl(`${scheme}://u:${password}@h/d`).kind === 'sqlite'
    } catch (error) {
      return error instanceof SpiffeError && error.code === 'config_invalid' && !`${error.message}${error.stack}`.includes(password)
    }
  }))
})
