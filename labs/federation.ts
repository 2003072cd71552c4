import type { Lab } from './frame/lab.ts'
import { bash, curl, envoy } from './frame/needs.ts'
import type { Stage } from './frame/stage.ts'

interface Side { readonly name: string, readonly domain: string, readonly id: string }

const example: Side = { name: 'example', domain: 'example.org', id: 'spiffe://example.org/backend' }
const partner: Side = { name: 'partner', domain: 'partner.test', id: 'spiffe://partner.test/api' }
const variableOf = ({ name }: Side, what: string) => `$${name.toUpperCase()}_${what}`
const httpCode = "curl -sk -m 10 -o /dev/null -w '%{http_code}\\n'"

const serverConfig = (side: Side) => `server:
  trust_domain: ${side.domain}
  bind_address: 127.0.0.1
  bind_port: ${variableOf(side, 'PORT')}
  data_dir: ${side.name}
  socket_path: ${side.name}.sock
  federation:
    bundle_endpoint:
      address: 127.0.0.1
      port: ${variableOf(side, 'BUNDLE')}
      profile: {https_spiffe: {}}
`

async function startServer (stage: Stage, side: Side): Promise<void> {
  for (const what of ['PORT', 'BUNDLE']) await stage.port(variableOf(side, what).slice(1))
  await stage.write(`${side.name}.yaml`, serverConfig(side))
  await stage.startUntil('server is running', side.name, `assay server run -config ${side.name}.yaml -expandEnv`)
}

async function startAgent (stage: Stage, side: Side): Promise<void> {
  const { name, domain } = side
  await stage.run(`assay bundle show -socketPath ${name}.sock > ${name}.pem`)
  await stage.run(`assay token generate -socketPath ${name}.sock -spiffeID spiffe://${domain}/node | sed 's/^Token: //' > ${name}.token`)
  await stage.startUntil('agent is serving', `${name}-agent`, `assay agent run -trustDomain ${domain} -serverAddress 127.0.0.1` +
    ` -serverPort ${variableOf(side, 'PORT')} -trustBundle ${name}.pem -joinTokenFile ${name}.token -dataDir ${name}-agent` +
    ` -socketPath ${name}-agent.sock`)
}

async function invite (stage: Stage, from: Side, to: Side): Promise<string> {
  const url = `https://127.0.0.1:${variableOf(from, 'BUNDLE')}`
  await stage.run(`assay federation invite -socketPath ${from.name}.sock -bundleEndpointURL ${url} > from-${from.name}.txt`)
  return await stage.run(`assay federation accept from-${from.name}.txt -yes -socketPath ${to.name}.sock`)
}

const follows = (stage: Stage, side: Side) => stage.until('it has been fetched',
  `assay federation status -socketPath ${side.name}.sock | grep -E "^(Trust domain|Health|Authorities)"`, /Health +: healthy/)

/** The gallery's file with this side's addresses in it. @param names further changes */
async function startEnvoy (stage: Stage, side: Side, other: Side, names: string): Promise<void> {
  const places = [
    `s#/tmp/assay-agent/public/api.sock#$PWD/${side.name}-agent.sock#`, `s/15000/${variableOf(side, 'ADMIN')}/`,
    `s/15443/${variableOf(side, 'IN')}/`, `s/15001/${variableOf(side, 'OUT')}/`, `s/8080/${variableOf(side, 'APP')}/`,
    `s/16443/${variableOf(other, 'IN')}/`
  ]
  await stage.run(`sed "${[...places, names].join('; ')}" envoy-configs/federation.yaml > ${side.name}-envoy.yaml`)
  stage.start(`${side.name}-envoy`, `envoy -c ${side.name}-envoy.yaml --disable-hot-restart --concurrency 1 -l warning`)
  await stage.until('it has its secrets', `curl -sS -m 5 http://127.0.0.1:${variableOf(side, 'ADMIN')}/ready`, /^LIVE$/m)
}

export const lab: Lab = {
  title: 'Federation: two trust domains, mutual TLS across them through both Envoys',
  needs: [bash, curl, envoy],
  proof: 'soak',
  async play (stage) {
    stage.step('Two trust domains')
    await startServer(stage, example)
    await startServer(stage, partner)

    stage.step('One invites, the other accepts')
    const shown = await invite(stage, partner, example)
    stage.checkMatch('accepting opens nothing by itself', shown, /They will be able to reach: nothing/)
    await follows(stage, example)

    stage.step('And the other way round')
    await invite(stage, example, partner)
    await follows(stage, partner)

    stage.step('A node and an identity on each side')
    await startAgent(stage, example)
    await startAgent(stage, partner)
    for (const [side, other] of [[example, partner], [partner, example]] as const) {
      await stage.run(`assay entry create -socketPath ${side.name}.sock -spiffeID ${side.id} -parentID spiffe://${side.domain}/node` +
        ` -selector unix:uid:$(id -u) -federatesWith ${other.domain}`)
    }
    const fetch = 'assay api fetch x509 -timeout 1m -socketPath $PWD/example-agent.sock | grep -E "SPIFFE ID|CA #1 Valid Until"'
    const bundles = await stage.until('the agent has it', fetch, /\[spiffe:\/\/partner\.test\] CA/)
    stage.checkMatch('the workload is given the partner\'s authorities beside its own, not among them', bundles, /example\.org\/backend/)

    stage.step('Two workloads that know of nothing')
    await stage.link('labs/frame/echo.mjs')
    for (const side of [example, partner]) {
      for (const what of ['ADMIN', 'IN', 'OUT', 'APP']) await stage.port(variableOf(side, what).slice(1))
      await stage.startUntil('echo listens', `${side.name}-app`, `node echo.mjs 127.0.0.1 ${variableOf(side, 'APP')} "${side.id}"`)
    }

    stage.step('An Envoy in front of each')
    await stage.link('envoy-configs')
    await startEnvoy(stage, example, partner, 's#partner.test/guest#partner.test/api#')
    // The same file from the other side: whose it is and who the partner is change places.
    await startEnvoy(stage, partner, example, [
      's#example.org#OWN#g', 's#partner.test#example.org#g', 's#OWN/backend#partner.test/api#g', 's#OWN#partner.test#g',
      's#example.org/guest#example.org/backend#', 's#example.org/api#example.org/backend#'
    ].join('; '))

    stage.step('Calls across')
    const there = await stage.until('both are up', `curl -sS -m 10 http://127.0.0.1:${variableOf(example, 'OUT')}/`, /^this is/)
    stage.checkMatch('the partner\'s workload sees who called', there, /partner\.test\/api, called by spiffe:\/\/example\.org\/backend/)
    const back = await stage.until('both are up', `curl -sS -m 10 http://127.0.0.1:${variableOf(partner, 'OUT')}/`, /^this is/)
    stage.checkMatch('and the other way round', back, /example\.org\/backend, called by spiffe:\/\/partner\.test\/api/)
    const stats = `http://127.0.0.1:${variableOf(partner, 'ADMIN')}/stats?filter=listener.*ssl.versions`
    const tls = await stage.run(`curl -sS "${stats}" | grep -oE "ssl.versions.TLSv1.[0-9]" | sort -u`)
    stage.checkMatch('by TLS 1.3', tls, /TLSv1\.3/)

    stage.step('Who is trusted is not yet let in')
    await stage.run('assay x509 mint -socketPath example.sock -spiffeID spiffe://example.org/stranger -write stranger > minted')
    const stranger = await stage.run(
      `${httpCode} --cert stranger/svid.pem --key stranger/key.pem https://127.0.0.1:${variableOf(partner, 'IN')}/`)
    stage.check('another of the same trust domain: known, and refused', stranger.trim() === '403', stranger)
    const bare = await stage.run(`curl -sk -m 10 -o /dev/null https://127.0.0.1:${variableOf(partner, 'IN')}/ || echo no handshake`)
    stage.checkMatch('without an SVID there is no connection', bare, /no handshake/)

    stage.step('It ends')
    await stage.run('assay x509 mint -socketPath partner.sock -spiffeID spiffe://partner.test/api -write again > minted')
    const url = `https://127.0.0.1:${variableOf(example, 'IN')}/`
    const call = `${httpCode} --cert again/svid.pem --key again/key.pem ${url} || echo no handshake`
    stage.check('so far the partner comes in', (await stage.run(call)).trim() === '200')
    await stage.run('assay federation delete -socketPath example.sock -id partner.test -bundle dissociate')
    const last = await stage.until('Envoy knows', call, /no handshake/)
    stage.checkMatch('from the next handshake on, nobody of that domain does', last, /no handshake/)
  }
}
