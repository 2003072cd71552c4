import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { openCertDir } from '../../src/files/cert-dir.ts'
import { splitArguments } from '../../src/files/command-line.ts'
import { findOwner } from '../../src/files/owners.ts'
import { readFilesConfig } from '../../src/cli/files/files-config-flags.ts'
import { filesRun } from '../../src/cli/files/files-run.ts'
import { parseFlags } from '../../src/cli/parse-flags.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { createTestTerminal } from '../fakes/terminal.ts'

const folder = mkdtempSync(join(tmpdir(), 'assay-files-config-'))
t.teardown(() => rmSync(folder, { recursive: true }))

function write (text: string, name = 'helper.conf'): string {
  const file = join(folder, name)
  writeFileSync(file, text)
  return file
}

async function read (words: readonly string[], environment: Record<string, string> = {}) {
  const { values } = parseFlags(filesRun, words)
  return await readFilesConfig(values as Parameters<typeof readFilesConfig>[0], createTestTerminal({ environment }))
}

const x509 = 'svid_file_name = "svid.pem"\nsvid_key_file_name = "svid_key.pem"\nsvid_bundle_file_name = "svid_bundle.pem"\n'
const least = `cert_dir = "certs"\n${x509}`

void t.test('spiffe-helper\'s file, as it is', async t => {
  const config = await read(['-config', write(`
    agent_address = "/tmp/spire-agent/public/api.sock"
    cmd = "ghostunnel"
    cmd_args = "server --listen localhost:8002 --allow-uri-san \\"spiffe://example.org/Data base\\""
    cert_dir = "certs"
    renew_signal = "SIGUSR1"
    hint = ""
    svid_file_name = "svid.pem"
    svid_key_file_name = "svid_key.pem"
    svid_bundle_file_name = "svid_bundle.pem"
    jwt_svids = [{jwt_audience="a", jwt_extra_audiences=["b", "c"], jwt_svid_file_name="jwt_svid.token"}]
    jwt_bundle_file_name = "bundle.json"
    cert_file_mode = 0444
    key_file_mode = "0440"
    jwt_svid_file_mode = 0640
    add_intermediates_to_bundle = true
    health_checks { listener_enabled = true bind_port = 8090 }
  `)])
  t.match(config, {
    socketPath: '/tmp/spire-agent/public/api.sock', certDir: 'certs', hint: undefined, daemon: true,
    command: {
      argv: ['ghostunnel', 'server', '--listen', 'localhost:8002', '--allow-uri-san', 'spiffe://example.org/Data base'],
      renewSignal: 'SIGUSR1', exitWithIt: false
    },
    files: {
      x509: { svid: 'svid.pem', key: 'svid_key.pem', bundle: 'svid_bundle.pem' }, addIntermediatesToBundle: true,
      includeFederatedDomains: false, omitExpired: false, jwtBundle: 'bundle.json',
      jwtSvids: [{ audience: ['a', 'b', 'c'], fileName: 'jwt_svid.token' }],
      modes: { certificate: 0o444, key: 0o440, jwtBundle: 0o600, jwtSvid: 0o640 }
    },
    healthChecks: { host: '0.0.0.0', port: 8_090, livePath: '/live', readyPath: '/ready' },
    warnings: []
  })
})

void t.test('flags, YAML and the environment', async t => {
  const yaml = write(`
cert_dir: /run/certs
svid_file_name: svid.pem
svid_key_file_name: key.pem
svid_bundle_file_name: ca.pem
key_file_mode: "0640"
file_owner: postgres
file_group: 999
pid_file_name: /run/postmaster.pid
pid_program: /usr/bin/postgres
renew_signal: SIGHUP
remove_after_revoked: 30s
reload: { command: [psql, -c, select pg_reload_conf()], http: { url: "http://127.0.0.1:9/x" }, timeout: 3s }
serves: { address: "127.0.0.1:5432", protocol: postgres, within: 5s }
`, 'files.yaml')
  t.match(await read(['-config', yaml, '-certDir', '/other']), {
    certDir: '/other', owner: { user: 'postgres', group: 999 }, removeAfterRevokedMs: 30_000,
    signalled: { file: '/run/postmaster.pid', pid: undefined, program: '/usr/bin/postgres', signal: 'SIGHUP' },
    reload: {
      command: ['psql', '-c', 'select pg_reload_conf()'], timeoutMs: 3_000,
      http: { method: 'POST', url: new URL('http://127.0.0.1:9/x') }
    },
    serves: { host: '127.0.0.1', port: 5_432, protocol: 'postgres', withinMs: 5_000 }
  })
  const environment = { SPIFFE_ENDPOINT_SOCKET: 'unix:///run/spiffe.sock' }
  const plain = write(least)
  t.equal((await read(['-config', plain], environment)).socketPath, '/run/spiffe.sock')
  t.equal((await read(['-config', plain])).socketPath, '/tmp/assay-agent/public/api.sock')
  t.equal((await read(['-config', write(`${least}agent_address = "unix:///a"`)], environment)).socketPath, '/a', 'the file wins over it')
  t.equal((await read(['-config', write(`${least}agent_address = "/a"`), '-socketPath', '/b'])).socketPath, '/b', 'a flag over the file')
  t.match(await read(['-config', write(`${least}cmd = "x"\n`), '-daemon-mode=false']), {
    daemon: false, warnings: [/no program is started/]
  })
  t.match(await read(['-config', write(`${least}key_file_mode = 0444\nrenew_signal = "SIGHUP"\n`)]), {
    warnings: [/renew_signal is sent to nobody/, /every user of this machine read the private key/]
  })
})

void t.test('what cannot be meant is refused, with its line', async t => {
  const refused: Readonly<Record<string, RegExp>> = {
    'cert_dir = "c"': /names no file: svid_file_name/,
    [x509]: /cert_dir: is required/,
    'cert_dir = "c"\nsvid_file_name = "s"': /svid_key_file_name, svid_bundle_file_name is missing/,
    [`${least}svid_file_nam = "x"`]: /:5: svid_file_nam: unknown key; did you mean svid_file_name\?/,
    [`${least}certDir = "x"`]: /did you mean cert_dir\?/,
    [least.replace('"svid.pem"', '"../svid.pem"')]: /:2: svid_file_name: must be the name of a file in cert_dir/,
    [least.replace('"svid.pem"', '"..data"')]: /must not begin with two dots/,
    [least.replace('"svid.pem"', '"svid_key.pem"')]: /names one file twice: svid_key\.pem/,
    [`${least}key_file_mode = 600`]: /key_file_mode: must be three octal digits in quotes/,
    [`${least}key_file_mode = "0700"`]: /must not make a file executable/,
    [`${least}key_file_mode = "4600"`]: /three octal digits/,
    [`${least}cmd = "x"\nrenew_signal = "SIGHUPP"`]: /did you mean SIGHUP\?/,
    [`${least}cmd = "x"\nrenew_signal = "SIGKILL"`]: /must be the name of a signal/,
    [`${least}pid_file_name = "x"`]: /pid_file_name: needs renew_signal/,
    [`${least}pid = 5\nrenew_signal = "SIGHUP"`]: /pid: needs pid_program/,
    [`${least}cmd_args = "x"`]: /cmd_args: needs cmd/,
    [`${least}cmd = "x"\ncmd_args = "a \\"b"`]: /a quotation mark must begin or end an argument/,
    [`${least}exit_with_cmd = true`]: /exit_with_cmd: needs cmd/,
    [`${least}reload { command = "nginx -s reload" }`]: /reload\.command: must be a list: a program and its arguments/,
    [`${least}reload { http { url = "ftp://x" } }`]: /must be a URL that begins with http/,
    [`${least}telemetry { EnableHostnameLabel = false }`]: /EnableHostnameLabel: is not offered: all names here are our own/,
    [`${least}serves { address = "5432" }`]: /must be host:port/,
    [`${least}jwt_svids { jwt_audience = "a" jwt_svid_file_name = "t" }`]: /must be a list: jwt_svids = \[\{ … \}\]/,
    'cert_dir = "c"\njwt_bundle_file_name = "j"\nserves { address = "a:1" }': /serves: needs svid_file_name/
  }
  for (const [text, message] of Object.entries(refused)) {
    await t.rejects(read(['-config', write(text)]), { code: 'config_invalid', message }, text)
  }
  await t.rejects(read(['-config', write('cert_dir: c\nkey_file_mode: 0444\n', 'a.yaml')]), { message: /in quotes/ },
    'in YAML the digits without quotes would be another number')
  t.match(await runAssay(['files', 'validate', '-config', write(`${least}cmd = "x"\ndaemon_mode = false`)]), {
    code: 0, stdout: 'Assay files configuration is valid.\n', stderr: /^Warning: daemon_mode is false/
  })
  t.match(await runAssay(['files', 'validate', '-config', write('cert_dir = "c"')]), { code: 2, stderr: /config_invalid/ })
})

void t.test('arguments', async t => {
  t.same(splitArguments('a  --b=c "d e" "" "say ""x""" '), ['a', '--b=c', 'd e', '', 'say "x"'])
  t.same(splitArguments(''), [])
  for (const text of ['"a', 'a"b c"', '"a"b', 'a"']) t.throws(() => splitArguments(text), /quotation mark/, text)
})

void t.test('names of owners', async t => {
  const etc = mkdtempSync(join(folder, 'etc-'))
  writeFileSync(join(etc, 'passwd'), 'root:x:0:0:root:/root:/bin/sh\npostgres:x:114:120:PostgreSQL:/var/lib/postgresql:/bin/bash\n')
  writeFileSync(join(etc, 'group'), 'ssl-cert:x:119:postgres\n')
  t.same(await findOwner({ user: undefined, group: undefined }, etc), undefined)
  t.same(await findOwner({ user: 'postgres', group: undefined }, etc), { uid: 114, gid: 120 }, 'with its own group')
  t.same(await findOwner({ user: undefined, group: 'ssl-cert' }, etc), { uid: -1, gid: 119 })
  t.same(await findOwner({ user: 7, group: undefined }, etc), { uid: 7, gid: -1 })
  await t.rejects(findOwner({ user: 'nginx', group: undefined }, etc), { code: 'config_invalid', message: /file_owner: nginx is not in/ })
})

void t.test('a folder that others can change is refused', async t => {
  const safe = { allowUnsafe: false }
  const made = join(folder, 'made')
  t.equal(await openCertDir(made, safe), made, 'it is made if it is not there; /tmp above it is sticky')
  const open = join(folder, 'open')
  mkdirSync(open)
  const below = join(open, 'below')
  mkdirSync(below)
  chmodSync(open, 0o1777)
  t.equal(await openCertDir(below, safe), below)
  await t.rejects(openCertDir(open, safe), { code: 'cert_dir_unsafe', message: /everybody may write to/ }, 'they could be first')
  chmodSync(open, 0o777)
  await t.rejects(openCertDir(below, safe), { code: 'cert_dir_unsafe', message: /open/ }, 'a folder above it')
  t.equal(await openCertDir(open, { allowUnsafe: true }), open)
  if (process.getuid?.() === 0) {
    chownSync(made, 4_242, 0)
    await t.rejects(openCertDir(made, safe), { code: 'cert_dir_unsafe', message: /belongs to user 4242/ })
  } else {
    t.pass('only root may give a folder to another user: not looked at')
  }
  await t.rejects(openCertDir(write('x', 'file'), safe), { code: 'file_unusable' })
  await t.rejects(openCertDir(join(folder, 'a/b/c'), safe), { code: 'file_unusable', message: /no such file/ })
})
