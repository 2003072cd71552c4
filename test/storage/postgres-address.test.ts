import { inspect } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { describeAddress, parsePostgresAddress, type PostgresAddress } from '../../src/storage/postgres/postgres-address.ts'
import { anyText, secret } from '../fakes/arbitraries.ts'
import { holds, unlessRefused } from '../fakes/holds.ts'

const at = (text: string): PostgresAddress => parsePostgresAddress(`postgres://${text}`)

void t.test('what an address says, as libpq reads it', async t => {
  t.match(at('u@db/d'), { user: 'u', database: 'd', targets: [{ host: 'db', port: 5432 }], tls: undefined, tlsChosen: false })
  t.equal(at('u:p%40s%3As@db').password(), 'p@s:s')
  t.equal(at('u:a:b@db').password(), 'a:b', 'the first colon ends the user')
  t.equal(at('u@db').password(), undefined)
  t.equal(at('u@db').database, 'u', 'named like the user')
  t.equal(at('u@db?dbname=d').database, 'd')
  t.match(at('db/d?user=u&password=p%26q'), { user: 'u' })
  t.equal(at('db/d?user=u&password=p%26q').password(), 'p&q')
  t.type(at('db').user, 'string', 'the user that runs the program')
  t.match(parsePostgresAddress('postgresql://u@db/d'), { user: 'u' })
  t.match(at('u@db/d?application_name=a&options=-c%20search_path%3Dx&connect_timeout=3'), {
    applicationName: 'a', options: '-c search_path=x', connectTimeoutMs: 3_000
  })
  const lists: Record<string, Array<[string, number]>> = {
    'u@a,b:5433,[2001:db8::1]:5434,[::1]/d': [['a', 5432], ['b', 5433], ['2001:db8::1', 5434], ['::1', 5432]],
    'u@/d?host=/run/a,/run/b&port=1,2': [['/run/a', 1], ['/run/b', 2]],
    'u@/d?host=a,b&port=6432': [['a', 6432], ['b', 6432]],
    'u@/d?host=::1,10.0.0.1&port=,7': [['::1', 5432], ['10.0.0.1', 7]],
    'u@%2Frun%2Fpostgresql/d': [['/run/postgresql', 5432]],
    'u@a,b/d?port=7': [['a', 7], ['b', 7]]
  }
  for (const [text, targets] of Object.entries(lists)) {
    t.strictSame(at(text).targets, targets.map(([host, port]) => ({ host, port })), text)
  }
  t.equal(describeAddress(at('u:secret@a,[::1]:1/d')), 'PostgreSQL database d at a:5432, [::1]:1 as u')
})

void t.test('sslmode means what libpq means by it', async t => {
  const tls = (parameters: string) => at(`u@db/d?${parameters}`).tls
  t.equal(tls('sslmode=disable'), undefined)
  t.equal(at('u@db/d?sslmode=disable').tlsChosen, true)
  t.match(tls('sslmode=require'), { mode: 'require', rootCert: undefined })
  t.match(tls('sslmode=require&sslrootcert=ca.pem'), { mode: 'verify-ca', rootCert: 'ca.pem' }, 'with a root, require checks the issuer')
  t.match(tls('sslmode=verify-ca&sslrootcert=ca.pem'), { mode: 'verify-ca' })
  t.match(tls('sslmode=verify-full&sslrootcert=/ca.pem&sslcert=c&sslkey=k'), {
    mode: 'verify-full', rootCert: '/ca.pem', cert: 'c', key: 'k'
  })
  t.match(tls('sslrootcert=system'), { mode: 'verify-full', rootCert: 'system' }, 'the machine\'s authorities imply the name')
  const refused: Record<string, RegExp> = {
    'sslmode=prefer': /prefer is not supported.*switch TLS off/,
    'sslmode=allow': /allow is not supported/,
    'sslmode=on': /can be disable, require, verify-ca or verify-full/,
    'sslmode=verify-full': /needs sslrootcert/,
    'sslmode=verify-ca': /needs sslrootcert/,
    'sslmode=verify-ca&sslrootcert=system': /needs sslmode=verify-full/,
    'sslmode=require&sslrootcert=system': /needs sslmode=verify-full/,
    'sslmode=disable&sslrootcert=ca.pem': /need an sslmode with TLS/,
    'sslcert=c&sslkey=k': /need an sslmode with TLS/,
    'sslmode=require&sslcert=c': /go together/,
    'sslmode=verify-full&sslrootcert=': /name files/
  }
  for (const [parameters, message] of Object.entries(refused)) {
    t.throws(() => tls(parameters), { code: 'config_invalid', message }, parameters)
  }
})

void t.test('what is unclear is refused, and nothing of it repeated', async t => {
  const refused: Record<string, RegExp> = {
    'u@db/d?sslmod=require': /did you mean sslmode\?/,
    'u@db/d?target_session_atrs=any': /did you mean target_session_attrs\?/,
    'u@db/d?zzzzzzzz=1': /none of host, port/,
    'u@db/d?target_session_attrs=any': /read-write or primary/,
    'u@db/d?target_session_attrs=standby': /may lack a ban/,
    'u@db/d?sslmode': /has no value/,
    'u@db/d?user=v': /user is given twice/,
    'u@db/d?dbname=e': /dbname is given twice/,
    'u:p@db/d?password=q': /password is given twice/,
    'u@db/d?options=a&options=b': /options is given twice/,
    'u@db/d?host=e': /host is given twice/,
    'u@db:1/d?port=2': /port is given twice/,
    'u@a,b/d?port=1,2,3': /one for each/,
    'u@a,a:5432/d': /listed twice/,
    'u@/d': /a host is missing/,
    'u@a,,b/d': /a host is missing/,
    'u@db:0/d': /1 to 65535/,
    'u@db:65536/d': /1 to 65535/,
    'u@db:x/d': /1 to 65535/,
    'u@[nonsense]/d': /IPv6 address/,
    'u@::1/d': /\[IPv6\]:port/,
    'u@d%20b/d': /no name/,
    'u@db/d?host=run%2Fx': /given twice/,
    'u@/d?host=run/x': /no name/,
    'u@db/d?connect_timeout=0': /at least 1/,
    'u@db/d?connect_timeout=1.5': /whole seconds/,
    'u:p%zz@db/d': /%25/,
    'u:p%00@db/d': /NUL/,
    'u:p@q@db/d': /%40/,
    'u:p/q@db/d': /%2F/,
    'u:12/34@db/d': /%2F/,
    'u:p?q@db/d': /%3F/,
    'u:p#q@db/d': /%23/,
    'u:p q@db/d': /%20/
  }
  for (const [text, message] of Object.entries(refused)) t.throws(() => at(text), { code: 'config_invalid', message }, text)
  const sign = fc.constantFrom('@', '/', '?', '#', '&', '%', ' ', ':', ',', '[', '')
  const raw = fc.tuple(secret, sign, secret)
  const place = fc.constantFrom(
    (text: string) => `u:${text}@db/d?sslmod=x`, (text: string) => `u:${text}@db:x/d`, (text: string) => `u@db/d?password=${text}&x=1`,
    (text: string) => `u@db/d?options=a&options=b&password=${text}`
  )
  await holds(t, 'a refusal shows no part of a password, however it is written', fc.property(raw, place, ([left, sign, right], put) => {
    try {
      at(put(`${left}${sign}${right}`))
      return false
    } catch (error) {
      const shown = inspect(error, { depth: 10, showHidden: true }).replaceAll(import.meta.url, '')
      return error instanceof SpiffeError && !shown.includes(left) && !shown.includes(right)
    }
  }), 2_000)
  await holds(t, 'nor does what was read', fc.property(secret, password => {
    const address = at(`u:${password}@db/d`)
    return address.password() === password && !`${JSON.stringify(address)}${inspect(address, { showHidden: true })}`.includes(password)
  }))
  await holds(t, 'any text is read or refused, never a crash', fc.property(anyText, text => {
    const address = unlessRefused('config_invalid', () => at(text))
    return address === undefined || address.targets.every(({ port }) => port >= 1 && port <= 65_535)
  }), 3_000)
  const part = anyText.filter(text => text !== '' && !text.includes('\0'))
  await holds(t, 'encoded, user, password and database may be anything', fc.property(part, part, part, (...parts) => {
    const [user, password, database] = parts.map(encodeURIComponent)
    const address = at(`${user}:${password}@db/${database}`)
    return JSON.stringify([address.user, address.password(), address.database]) === JSON.stringify(parts)
  }))
})
