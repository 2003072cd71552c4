import type { Lab } from './frame/lab.ts'
import { bash, openssl } from './frame/needs.ts'
import { joinFlags, startOneNode } from './frame/one-node.ts'

/** What a reader of these lines does not need: when, and what ties them together. */
const filter = `s/ ?(time|connection|requestId|address|caller[.a-zA-Z]*|durationMs|method|bundleSequence)=("[^"]*"|[^ ]+)//g
s/^ +//
`
const debug = { serverFlags: '-logLevel debug -logFormat text', agentFlags: '-logLevel debug -logFormat text' }
const create = 'assay entry create -parentID spiffe://example.org/laptop'
const lastRequest = (what: string) =>
  `grep requestId=$(sed -nE 's/.*${what}.* requestId=([^ ]*).*/\\1/p' logs/server.log | tail -1) logs/server.log | sed -Ef filter.sed`

export const lab: Lab = {
  title: 'Attestation followed in debug logs, and three that fail',
  needs: [bash, openssl],
  proof: 'test',
  async play (stage) {
    stage.step('A server and an agent that tell all they do')
    await startOneNode(stage, debug)
    await stage.write('filter.sed', filter)

    stage.step('A node joins: what the server did')
    const server = await stage.run(lastRequest('attestation received'))
    stage.checkMatch('its request is checked, then its token, then it has an identity', server,
      /attestation received[^]*well formed and signed[^]*join token is valid[^]*agent attested/)

    stage.step('A node joins: what the agent did')
    const steps = 'connected to the server|server verified|node attested|agent has its identity|agent is serving'
    const agent = await stage.run(`grep -E '${steps}' logs/agent.log | sed -Ef filter.sed | awk '!seen[$0]++'`)
    stage.checkMatch('it knows the server before it says anything', agent, /server verified[^]*node attested[^]*agent is serving/)

    stage.step('A workload for which there is no entry')
    await stage.run(`${create} -spiffeID spiffe://example.org/other -selector unix:uid:4242`)
    const refused = await stage.run('assay api fetch x509', { status: 1 })
    stage.checkMatch('it is refused', refused, /code: no_identity_issued/)
    const found = await stage.run('grep "workload attested" logs/agent.log | tail -1 | grep -oE "workload attested|unix:uid:[0-9]+"')
    stage.check('the log has what was found', found.includes(`unix:uid:${process.getuid?.()}`), found)
    await stage.run('assay entry show -spiffeID spiffe://example.org/other | grep Selector')

    stage.step('An entry that fits')
    await stage.run(`${create} -spiffeID spiffe://example.org/me -selector unix:uid:$(id -u) > created`)
    const served = await stage.until('the agent has it', 'assay api fetch x509 | grep "SPIFFE ID"', /example\.org\/me$/m)
    stage.checkMatch('the same process, now with an identity', served, /example\.org\/me$/m)

    stage.step('A token that was used')
    const used = await stage.run(
      `assay agent run ${joinFlags} -joinTokenFile token -dataDir thief -socketPath thief.sock 2>&1 | tail -3`, { status: 1 })
    stage.checkMatch('the node is refused, and told why', used, /code: join_token_invalid/)
    const log = await stage.run(lastRequest('attestation received'))
    stage.checkMatch('the server has written down the same reason', log, /attestation refused.*code=join_token_invalid/)
    await stage.run('assay errors join_token_invalid')

    stage.step('A server that is not the one')
    await stage.run('openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=other' +
      ' -addext subjectAltName=URI:spiffe://example.org -keyout other.key -out other.pem 2>/dev/null')
    await stage.run("assay token generate -spiffeID spiffe://example.org/wary | sed 's/^Token: //' > unused")
    const wary = await stage.run(`assay agent run ${joinFlags.replace('bundle.pem', 'other.pem')} -joinTokenFile unused -dataDir wary` +
      ' -socketPath wary.sock 2>&1 | tail -3', { status: 1 })
    stage.checkMatch('the agent refuses the server', wary, /code: bootstrap_untrusted/)
    await stage.startUntil('agent is serving', 'wary',
      `assay agent run ${joinFlags} -joinTokenFile unused -dataDir wary -socketPath wary.sock`)
    const joined = await stage.run('assay agent list | grep -c "SPIFFE ID"')
    stage.check('and has not given its token away: with the right bundle it joins', joined.trim() === '2', joined)
  }
}
