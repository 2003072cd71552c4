import { bash, curl, envoy, openssl, program, root } from './frame/needs.ts'
import type { Lab } from './frame/lab.ts'
import type { Stage } from './frame/stage.ts'

const iproute = program('ip', 'apt install iproute2')
const nsenter = program('nsenter', 'apt install util-linux')
// TEST-NET-1 and TEST-NET-2 of RFC 5737: no real network has them.
const server = '192.0.2.1'
const proxy = '198.51.100.254'

/** Bytes in, bytes out, for two ports. */
const proxyConfig = `admin: {address: {socket_address: {address: 127.0.0.1, port_value: 15000}}}
static_resources:
  listeners:
  - name: server
    address: {socket_address: {address: ${proxy}, port_value: 8081}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: server
          cluster: server
  - name: mtls
    address: {socket_address: {address: ${proxy}, port_value: 15443}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: mtls
          cluster: mtls
  clusters:
  - name: server
    type: STATIC
    load_assignment:
      cluster_name: server
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: ${server}, port_value: 8081}}}}]}]
  - name: mtls
    type: STATIC
    load_assignment:
      cluster_name: mtls
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: ${server}, port_value: 15443}}}}]}]
`

async function connect (stage: Stage, site: string, address: string, middle: string): Promise<void> {
  const name = site.toLowerCase().replace('_', '-')
  await stage.run(`ip link add uplink netns $${site}_PID type veth peer name to-${name} netns $MIDDLE_PID`)
  for (const [place, link, at] of [[site, 'uplink', address], ['MIDDLE', `to-${name}`, middle]]) {
    await stage.run(`$${place} ip address add ${at}/24 dev ${link} && $${place} ip link set ${link} up && $${place} ip link set lo up`)
  }
}

async function startAgent (stage: Stage, site: string, name: string, address: string): Promise<void> {
  await stage.run(`assay token generate -spiffeID spiffe://example.org/${name} | sed 's/^Token: //' > ${name}.token`)
  await stage.startUntil('agent is serving', name, `$${site} assay agent run -trustDomain example.org -serverAddress ${address}` +
    ` -serverPort 8081 -trustBundle bundle.pem -joinTokenFile ${name}.token -dataDir ${name} -socketPath ${name}.sock`)
}

async function startEnvoy (stage: Stage, site: string, name: string, config: string, address: string): Promise<void> {
  const edits = [
    `s#/tmp/assay-agent/public/api.sock#$PWD/${name}.sock#`,
    `s#127.0.0.1, port_value: 15443#${address}, port_value: 15443#`, 's#15010#15000#'
  ]
  await stage.run(`sed "${edits.join('; ')}" envoy-configs/${config} > ${name}-envoy.yaml`)
  stage.start(`${name}-envoy`, `$${site} envoy -c ${name}-envoy.yaml --disable-hot-restart --concurrency 1 -l warning`)
  await stage.until('it has its secrets', `$${site} curl -sS -m 5 http://127.0.0.1:15000/ready`, /^LIVE$/m)
}

const entry = (id: string, node: string) =>
  `assay entry create -spiffeID spiffe://example.org/${id} -parentID spiffe://example.org/${node} -selector unix:uid:$(id -u)`

export const lab: Lab = {
  title: 'Hybrid: two sites that reach each other through a proxy only',
  needs: [root, bash, curl, envoy, iproute, nsenter, openssl],
  proof: 'soak',
  async play (stage) {
    stage.step('Two sites and what is between them')
    for (const place of ['SITE_A', 'MIDDLE', 'SITE_B']) await stage.namespace(place)
    await connect(stage, 'SITE_A', server, '192.0.2.254')
    await connect(stage, 'SITE_B', '198.51.100.1', proxy)
    const route = await stage.run(`$SITE_B ip route get ${server}`, { status: 2 })
    stage.checkMatch('no way leads from one to the other', route, /Network is unreachable/)

    stage.step('A server at the one site')
    stage.set('ASSAY_SERVER_SOCKET', 'server.sock')
    await stage.startUntil('server is running', 'server', `$SITE_A assay server run -trustDomain example.org -bindAddress ${server}` +
      ' -serverPort 8081 -dataDir server -socketPath server.sock')
    await stage.run('assay bundle show > bundle.pem')

    stage.step('A proxy in the middle')
    await stage.write('proxy.yaml', proxyConfig)
    stage.start('proxy', '$MIDDLE envoy -c proxy.yaml --disable-hot-restart --concurrency 1 -l warning')
    await stage.until('it is up', '$MIDDLE curl -sS -m 5 http://127.0.0.1:15000/ready', /^LIVE$/m)

    stage.step('A node of the other site joins through it')
    await startAgent(stage, 'SITE_B', 'node-b', proxy)
    await startAgent(stage, 'SITE_A', 'node-a', server)
    const agents = await stage.run('assay agent list | grep -c "SPIFFE ID"')
    stage.check('both nodes are known', agents.trim() === '2', agents)

    stage.step('Workloads of both')
    await stage.link('labs/frame/echo.mjs')
    await stage.link('envoy-configs')
    await stage.startUntil('echo listens', 'backend', '$SITE_A node echo.mjs 127.0.0.1 8080 backend')
    await stage.run(`${entry('backend', 'node-a')} > created`)
    await stage.run(`${entry('web', 'node-b')} > created`)
    await stage.run(`${entry('batch', 'node-b')} > created`)
    await startEnvoy(stage, 'SITE_A', 'node-a', 'server-node.yaml', server)
    await startEnvoy(stage, 'SITE_B', 'node-b', 'client-node.yaml', proxy)

    stage.step('From site to site')
    const web = await stage.until('both are up', '$SITE_B curl -sS -m 10 http://127.0.0.1:15001/', /^this is/)
    stage.checkMatch('the backend sees who called, not the proxy', web, /called by spiffe:\/\/example\.org\/web$/m)
    const batch = await stage.run("$SITE_B curl -sS -m 10 -o /dev/null -w '%{http_code}\\n' http://127.0.0.1:15002/")
    stage.check('who may not is refused at the other site', batch.trim() === '403', batch)

    stage.step('A proxy that looks inside')
    // Without the defaults, which would make it a CA: that alone is refused.
    await stage.write('inspector.cnf', '[req]\ndistinguished_name = none\n[none]\n')
    await stage.run('openssl req -x509 -config inspector.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1' +
      ' -subj /CN=inspector -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature' +
      ' -addext subjectAltName=URI:spiffe://example.org/spire/server -keyout inspector.key -out inspector.pem 2>/dev/null')
    await stage.startUntil('ACCEPT', 'inspector',
      `$MIDDLE openssl s_server -accept ${proxy}:9081 -cert inspector.pem -key inspector.key -alpn h2`)
    await stage.run("assay token generate -spiffeID spiffe://example.org/node-c | sed 's/^Token: //' > node-c.token")
    const refused = await stage.run(`$SITE_B assay agent run -trustDomain example.org -serverAddress ${proxy} -serverPort 9081` +
      ' -trustBundle bundle.pem -joinTokenFile node-c.token -dataDir node-c -socketPath node-c.sock 2>&1 | tail -3', { status: 1 })
    stage.checkMatch('the agent does not believe it', refused,
      /no authority of example\.org signed this chain\n +code: bootstrap_untrusted/)

    stage.step('The line between the sites is cut')
    await stage.run('$MIDDLE ip link set to-site-a down')
    await stage.run(`${entry('late', 'node-b')} -entryID late > created`)
    const alone = await stage.run('assay api fetch x509 -timeout 1m -socketPath node-b.sock | grep "SPIFFE ID" | sort')
    stage.checkMatch('workloads of the other site keep what they have', alone, /\/batch\n.*\/web$/m)

    stage.step('And mended')
    await stage.run('$MIDDLE ip link set to-site-a up')
    const late = await stage.until('the agent has heard of it',
      'assay api fetch x509 -timeout 1m -socketPath node-b.sock | grep "SPIFFE ID" | sort', /\/late$/m)
    stage.checkMatch('what was changed meanwhile arrives', late, /\/batch\n.*\/late\n.*\/web$/m)
    const again = await stage.until('Envoys have found each other', '$SITE_B curl -sS -m 10 http://127.0.0.1:15001/', /^this is/)
    stage.checkMatch('and calls go on', again, /called by spiffe:\/\/example\.org\/web$/m)
  }
}
