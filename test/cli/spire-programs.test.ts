import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { treeOf } from '../../src/cli/spire/spire-trees.ts'
import { eventually } from '../fakes/eventually.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { startTestServer } from '../fakes/server.ts'
import { commands, wordsOf } from './spire-parity/spire-facts.ts'

const bin = join(import.meta.dirname, '../../bin')

void t.test('spire-server and spire-agent have SPIRE\'s commands', async t => {
  const [server, agent] = [wordsOf(treeOf('spire-server')), wordsOf(treeOf('spire-agent'))]
  t.strictSame(commands['spire-server'].filter(words => !server.includes(words)), [])
  t.strictSame(commands['spire-agent'].filter(words => !agent.includes(words)), [])
  t.notOk(server.includes('agent run'), 'each runs what it is named for')
  for (const words of commands['spire-server']) {
    const { code, stdout } = await runAssay([...words.split(' '), '--help'], { program: 'spire-server' })
    t.match([code, stdout], [0, new RegExp(`Usage: spire-server ${words}`)], words)
    t.notMatch(stdout, /^ {2}assay /m)
  }
  t.match(await runAssay(['entry', 'craete'], { program: 'spire-server' }), { code: 1, stderr: /did you mean `spire-server entry create`/ })
  t.match(await runAssay(['entry', 'create'], { program: 'spire-agent' }), { code: 127, stderr: /unknown command "entry"/ })
})

async function put (t: Test, files: Readonly<Record<string, string>>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'assay-spire-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true })
    await writeFile(join(folder, name), text)
  }
  return folder
}

const serverConf = `
server {
    bind_address = "127.0.0.1"
    bind_port = "8081"  # in quotes, as SPIRE's own file has it
    trust_domain = "example.org"
    data_dir = "./data"
    disable_jwt_svids = "false"
    ca_subject { country = ["US"], organization = ["Example"], common_name = "" }
    federation {
        federates_with "partner.org" {
            bundle_endpoint_url = "https://partner.org:8443"
            bundle_endpoint_profile "https_web" {}
        }
    }
}
plugins {
    DataStore "sql" {
        plugin_data { database_type = "sqlite3" connection_string = "\${FOLDER}/datastore.sqlite3" }
    }
    KeyManager "disk" { plugin_data { keys_path = "./keys.json" } }
    NodeAttestor "join_token" { plugin_data {} }
    NodeAttestor "sshpop" {
        plugin_data {
            cert_authorities = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEAWPAsKJ/qMYUIBeH7BLMRCE/bkUvMHX+7OZhANk45S"]
            cert_authorities_path = "./conf/server/ssh-ca.pub"
            canonical_domain = "example.com"
            agent_path_template = "/static/{{ index .ValidPrincipals 0 | trimSuffix \\".example.com\\" }}"
        }
    }
    NodeAttestor "http_challenge" {
        plugin_data {
            allowed_dns_patterns = ["^p[0-9]\\\\.example\\\\.com$"]
            required_port = "80"
            allow_non_root_ports = "false"
            tofu = "false"
        }
    }
}
telemetry { Prometheus { port = "9988" } }
health_checks { listener_enabled = true bind_port = "8080" }
`

void t.test('SPIRE\'s files are read where SPIRE\'s programs look for them', async t => {
  const folder = await put(t, {
    'conf/server/server.conf': serverConf,
    'conf/agent/agent.conf': `agent {
      trust_domain = "example.org"
      server_address = "127.0.0.1"
      server_port = "8081"
      insecure_bootstrap = "true"
      join_token = "x"
    }
    plugins {
      NodeAttestor "join_token" { plugin_data {} }
      KeyManager "memory" { plugin_data {} }
      WorkloadAttestor "unix" { plugin_data {} }
    }`
  })
  const run = promisify(execFile)
  const server = await run(join(bin, 'spire-server'), ['validate', '-expandEnv'], { cwd: folder, env: { ...process.env, FOLDER: folder } })
  t.equal(server.stdout, 'SPIRE server configuration file is valid.\n')
  const agent = await run(join(bin, 'spire-agent'), ['validate'], { cwd: folder })
  t.equal(agent.stdout, 'SPIRE agent configuration file is valid.\n')
  const conf = join(folder, 'conf/server/server.conf')
  const [given, environment] = [['-config', conf, '-expandEnv'], { FOLDER: folder }]
  const byAssay = await runAssay(['server', 'validate', ...given], { environment })
  t.match(byAssay, { code: 0, stdout: /Assay server configuration/ }, 'assay reads them too')
  await writeFile(conf, serverConf.replace('"8081"', '"eighty"').replace('data_dir', 'dtaa_dir'))
  t.match(await runAssay(['validate', ...given], { program: 'spire-server', environment }), {
    code: 1, stderr: /conf:4: server\.bind_port: must be a number\n.*conf:6: server\.dtaa_dir: unknown key; did you mean data_dir/
  })
  await writeFile(conf, serverConf.replace('federates_with "partner.org"', 'federates_with "Partner.org"'))
  const { code, stderr } = await runAssay(['validate', ...given], { program: 'spire-server', environment })
  t.match([code, stderr], [1, /federates_with/])
  t.notMatch(stderr, /this is a bug/, 'a mistake in a part is told as one')
})

void t.test('what runs tells of itself, and can be had to log more', async t => {
  await using server = await startTestServer()
  const { socketPath } = server.config
  const ask = (...words: string[]) => runAssay([...words, '-socketPath', socketPath], { program: 'spire-server' })
  t.match((await ask('debug', 'getinfo')).stdout, new RegExp(['Server Debug Info:', '  Uptime:                  \\d+s',
    '  Registered Agents:       0', '  Registration Entries:    0', '  Federated Bundles:       1', '  SVID Chain:',
    '    \\[0\\] SPIFFE ID:  spiffe://example.org/spire/server', '        Subject:    .*C=US', '        Expires At: 2\\d{3}-.*Z'].join('\\n')))
  const { stdout } = await ask('debug', 'getinfo', '-output', 'json')
  t.match(JSON.parse(stdout), { agents_count: 0, entries_count: 0, federated_bundles_count: 1, uptime: Number, svid_chain: [{}, {}] })
  const level = async (...words: string[]) => (await ask('logger', ...words)).stdout
  const launch = (await level('get')).split('\n')[1]
  t.match(launch, /^Launch Level : [a-z]+$/)
  t.equal(await level('set', '-level', 'warn'), `Logger Level : warning\n${launch}\n\n`)
  t.match(JSON.parse(await level('get', '-output', 'json')), { current_level: 'WARN', launch_level: String })
  t.equal((await level('reset')).split('\n')[0], launch?.replace('Launch', 'Logger'))
  t.match(await ask('logger', 'set'), { code: 1, stderr: /a value \(-level\) must be set/ })
  t.match(await ask('logger', 'set', '-level', 'loud'), { code: 1, stderr: /level/ })

  const folder = await put(t, { 'admin/x': '' })
  const adminSocketPath = join(folder, 'admin/admin.sock')
  await using _ = await startTestAgent(server, { config: { adminSocketPath } })
  const askAgent = (...words: string[]) => runAssay([...words, '-socketPath', adminSocketPath], { program: 'spire-agent' })
  await eventually('a first sync', async () => !(await askAgent('debug', 'getinfo')).stdout.includes('never'))
  t.match((await askAgent('debug', 'getinfo')).stdout, /^Agent Debug Info:\n {2}Uptime: {26}\d+s\n {2}Last Sync Success: +2\d{3}-.*Z\n/)
  t.match((await askAgent('logger', 'set', '-level', 'error')).stdout, /^Logger Level : error\n/)
  t.match(await runAssay(['debug', 'getinfo'], { program: 'spire-agent' }), { code: 1, stderr: /\/tmp\/spire-agent\/private\/admin\.sock/ })
})
