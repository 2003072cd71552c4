import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { parseHcl } from '../../src/runtime/hcl-text.ts'
import { parseServerConfig } from '../../src/server/server-config.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { newKey } from '../fakes/agent-client.ts'
import { startTestServer } from '../fakes/server.ts'

void t.test('a server with SPIRE\'s composer uniqueid, as SPIRE\'s configuration names it', async t => {
  const { plugins } = parseServerConfig({ file: {
    name: 'server.conf', parse: parseHcl, text: `
      server {
        trust_domain = "example.org"
        data_dir = "/unused"
      }
      plugins {
        KeyManager "memory" {}
        CredentialComposer "uniqueid" {}
      }`
  } })
  await using server = await startTestServer({ config: { plugins } })
  const csr = createCertificateRequest(newKey(), { uriSans: ['spiffe://example.org/web'] })
  const { svid } = await server.admin.client(svidService).mintX509SVID({ csr })
  const { subject } = new X509Certificate(svid?.certChain[0] as Uint8Array)
  t.equal(subject, 'C=US\nO=SPIRE\nx500UniqueIdentifier=5435ad736577b1c6010684ba059e1171')
})

void t.test('one with a key of its own is refused by that key', t => {
  const text = JSON.stringify({
    server: { trust_domain: 'example.org', data_dir: '/unused' },
    plugins: { CredentialComposer: { uniqueid: { plugin_data: { length: 3 } } } }
  })
  t.throws(() => parseServerConfig({ file: { name: 'server.json', text } }), { code: 'config_invalid', message: /uniqueid.*length/ })
  t.end()
})
