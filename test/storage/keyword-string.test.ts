import fc from 'fast-check'
import t from 'tap'
import { keywordsToUrl } from '../../src/storage/postgres/keyword-string.ts'
import { parsePostgresAddress } from '../../src/storage/postgres/postgres-address.ts'
import { anyText } from '../fakes/arbitraries.ts'
import { holds, unlessRefused } from '../fakes/holds.ts'

const read = (text: string) => parsePostgresAddress(keywordsToUrl(text))

void t.test('keywords and values, as libpq reads them', async t => {
  t.match(read('dbname=spire user=u host=db sslmode=disable'), {
    database: 'spire', user: 'u', targets: [{ host: 'db', port: 5432 }], tls: undefined, tlsChosen: true
  })
  t.match(read("  host = db\n port=6432\tuser = 'a b' dbname='it\\'s \\\\ here'  "), {
    user: 'a b', database: "it's \\ here", targets: [{ host: 'db', port: 6432 }]
  })
  t.equal(read("host=db user=u password='p&q=%41?#@/:'").password(), 'p&q=%41?#@/:')
  t.equal(read('host=db user=u password=a\\ b\\\'c').password(), "a b'c")
  t.equal(read("host=db user=u password=''").password(), undefined)
  t.match(read('host=/run/postgresql dbname=d user=u'), { targets: [{ host: '/run/postgresql' }] })
  t.match(read('host=a,b port=1,2 user=u sslmode=verify-full sslrootcert=/ca.pem'), {
    targets: [{ host: 'a', port: 1 }, { host: 'b', port: 2 }], tls: { mode: 'verify-full', rootCert: '/ca.pem' }
  })
})

void t.test('what is no address is refused, and nothing of it repeated', async t => {
  for (const text of [
    'spire', 'host', '=db', 'host=db user', "host='db", "host='db'x", 'host=db;user=u', 'Host=db', 'host=db user=u host=db', 'host=d no=x',
    'host=db sslmode=prefer', 'user=u dbname=d', '', 'host=db password=\ud800'
  ]) t.throws(() => read(text), { code: 'config_invalid' }, text)
  t.throws(() => read('host=db user=u passwort=geheim'), { message: /did you mean password/ })
  const said = (text: string) => { try { read(text); return '' } catch (error) { return (error as Error).message } }
  t.notMatch(said("host=db password='geheim"), 'geheim')
})

void t.test('any password comes back as it was', async t => {
  const quoted = (text: string) => `'${text.replaceAll(/['\\]/g, '\\$&')}'`
  await holds(t, 'in quotes', fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }), password => {
    fc.pre(!password.includes('\0'))
    return read(`host=db user=u password=${quoted(password)}`).password() === password
  }))
  await holds(t, 'whatever is written', fc.property(anyText, text => { unlessRefused('config_invalid', () => read(text)) }))
})
