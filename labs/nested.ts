import type { Lab } from './frame/lab.ts'
import { bash, openssl } from './frame/needs.ts'
import type { Stage } from './frame/stage.ts'

const portOf = (name: string) => `$${name.toUpperCase()}_PORT`

const configOf = (name: string) => `server:
  trust_domain: example.org
  bind_address: 127.0.0.1
  bind_port: ${portOf(name)}
  data_dir: ${name}
  socket_path: ${name}.sock
plugins:
  UpstreamAuthority:
    spire:
      plugin_data:
        server_address: 127.0.0.1
        server_port: "$TOP_PORT"
        workload_api_socket: $PWD/top-${name}.sock
`

/** An agent of `server` with the name as its node. */
async function startAgent (stage: Stage, server: string, name: string): Promise<void> {
  await stage.run(`assay bundle show -socketPath ${server}.sock > ${server}.pem`)
  const generate = `assay token generate -socketPath ${server}.sock -spiffeID spiffe://example.org/${name}`
  await stage.run(`${generate} | sed 's/^Token: //' > ${name}.token`)
  await stage.startUntil('agent is serving', name, 'assay agent run -trustDomain example.org -serverAddress 127.0.0.1' +
    ` -serverPort ${portOf(server)} -trustBundle ${server}.pem -joinTokenFile ${name}.token -dataDir ${name} -socketPath ${name}.sock`)
}

/** A server below the top, which is a workload of an agent of the top. */
async function startBelow (stage: Stage, name: string): Promise<void> {
  await startAgent(stage, 'top', `top-${name}`)
  await stage.run(`assay entry create -socketPath top.sock -downstream -spiffeID spiffe://example.org/${name}` +
    ` -parentID spiffe://example.org/top-${name} -selector unix:uid:$(id -u)`)
  await stage.port(portOf(name).slice(1))
  await stage.write(`${name}.yaml`, configOf(name))
  await stage.until('the agent above has its identity',
    `assay api fetch x509 -timeout 1m -socketPath top-${name}.sock -silent && echo served`, /^served$/m)
  await stage.startUntil('server is running', name, `assay server run -config ${name}.yaml -expandEnv`)
}

/** An agent of that server, and a workload's SVID in the folder `name`-svid. */
async function startWorkload (stage: Stage, server: string, name: string): Promise<void> {
  await startAgent(stage, server, `${server}-node`)
  await stage.run(`assay entry create -socketPath ${server}.sock -spiffeID spiffe://example.org/${name}` +
    ` -parentID spiffe://example.org/${server}-node -selector unix:uid:$(id -u)`)
  const fetch = `assay api fetch x509 -timeout 1m -socketPath ${server}-node.sock -write ${name} | grep "SPIFFE ID"`
  await stage.until('the agent has it', fetch, new RegExp(`spiffe://example\\.org/${name}$`, 'm'))
}

export const lab: Lab = {
  title: 'Nested servers: two below one top, and one root for all',
  needs: [bash, openssl],
  proof: 'soak',
  async play (stage) {
    stage.step('The top')
    await stage.port('TOP_PORT')
    const top = await stage.startUntil('server is running', 'top', 'assay server run -trustDomain example.org -bindAddress 127.0.0.1' +
      ' -serverPort $TOP_PORT -dataDir top -socketPath top.sock')

    stage.step('A server below it')
    await startBelow(stage, 'east')

    stage.step('And another')
    await startBelow(stage, 'west')
    const roots = await stage.run('for name in top east west; do assay bundle show -socketPath $name.sock | sha256sum; done | sort -u')
    stage.check('all three have the same root, and no other', roots.trim().split('\n').length === 1, roots)

    stage.step('A workload of each')
    await startWorkload(stage, 'east', 'web')
    await startWorkload(stage, 'west', 'db')
    const chain = await stage.run('grep -c "BEGIN CERTIFICATE" web/svid.0.pem db/svid.0.pem')
    stage.checkMatch('an SVID comes with the CA of the server that signed it', chain, /^web\/svid\.0\.pem:2\ndb\/svid\.0\.pem:2$/m)

    stage.step('Each is valid for the other')
    const offline = await stage.run('assay svid verify web/svid.0.pem -bundle db/bundle.0.pem')
    stage.checkMatch('the bundle of the west has what it takes', offline, /SVID is valid/)
    await stage.run('openssl verify -CAfile top.pem -untrusted web/svid.0.pem web/svid.0.pem')
    await stage.run('openssl verify -CAfile top.pem -untrusted db/svid.0.pem db/svid.0.pem')
    await stage.run('openssl verify -CAfile top.pem web/svid.0.pem 2>&1 | grep -o "unable to get local issuer certificate"', { status: 2 })

    stage.step('Mutual TLS across')
    await stage.port('TLS_PORT')
    const flags = (name: string) => '-tls1_2 -verify_return_error' +
      ` -cert ${name}/svid.0.pem -cert_chain ${name}/svid.0.pem -key ${name}/svid.0.key -CAfile ${name}/bundle.0.pem`
    await stage.startUntil('ACCEPT', 's_server', `openssl s_server -accept 127.0.0.1:$TLS_PORT ${flags('db')} -Verify 2`)
    const spoken = await stage.run(
      `echo | openssl s_client -connect 127.0.0.1:$TLS_PORT ${flags('web')} 2>&1 | grep "Verify return code"`)
    stage.checkMatch('web of the east and db of the west speak', spoken, /0 \(ok\)/)

    stage.step('Tokens too')
    await stage.run("assay api fetch jwt -timeout 1m -audience db -socketPath east-node.sock | sed -n 's/^\\t\\(eyJ.*\\)/\\1/p' > web.jwt")
    const token = await stage.until('the key has come down in the west',
      'assay bundle show -socketPath west.sock -format spiffe > west.json; assay svid verify web.jwt -bundle west.json -audience db',
      /SVID is valid/)
    stage.checkMatch('a token of the east is valid in the west', token, /spiffe:\/\/example\.org\/web/)

    stage.step('The top is away')
    await stage.crash(top)
    await stage.run('assay entry create -entryID late -socketPath east.sock -spiffeID spiffe://example.org/late' +
      ' -parentID spiffe://example.org/east-node -selector unix:uid:$(id -u)')
    const late = await stage.until('the agent has it',
      'assay api fetch x509 -timeout 1m -socketPath east-node.sock | grep "SPIFFE ID" | sort', /\/late$/m)
    stage.checkMatch('the servers below sign on', late, /\/web$/m)
  }
}
