import { bash, openssl } from './frame/needs.ts'
import type { Lab } from './frame/lab.ts'
import { joinFlags, serverFlags } from './frame/one-node.ts'

export const lab: Lab = {
  title: 'Install and join: a server, a join token, an agent, the first SVID',
  needs: [bash, openssl],
  proof: 'test',
  async play (stage) {
    stage.step('A server')
    await stage.port('SERVER_PORT')
    stage.set('ASSAY_SERVER_SOCKET', 'server.sock')
    await stage.startUntil('server is running', 'server', `assay server run ${serverFlags}`)
    await stage.run('assay server healthcheck')
    const files = await stage.run('cd server; stat -c "%a %n" datastore.sqlite3 keys.json')
    stage.checkMatch('entries and keys are in its folder, for its owner alone', files, /600 datastore\.sqlite3\n600 keys\.json/)

    stage.step('What a node must know of the server')
    await stage.run('assay bundle show > bundle.pem')
    const root = await stage.run('openssl x509 -in bundle.pem -noout -ext subjectAltName,basicConstraints')
    stage.checkMatch('the bundle is a CA certificate with the trust domain\'s name', root, /CA:TRUE[^]*URI:spiffe:\/\/example\.org$/m)

    stage.step('What the server must know of a node')
    const token = await stage.run('assay token generate -spiffeID spiffe://example.org/laptop | tee generated')
    await stage.run("sed 's/^Token: //' generated > token")
    stage.checkMatch('the token is nothing but a random number', token, /^Token: [0-9a-f]{8}-[0-9a-f-]{27}$/m)

    stage.step('An agent joins')
    stage.set('SPIFFE_ENDPOINT_SOCKET', `unix://${stage.folder}/agent.sock`)
    const agent = await stage.startUntil('agent is serving', 'agent',
      `assay agent run ${joinFlags} -joinTokenFile token -dataDir agent -socketPath agent.sock`)
    await stage.run('assay agent healthcheck')
    const agents = await stage.run('assay agent list')
    stage.check('the agent is named for the token by which it joined',
      agents.includes(`spiffe://example.org/spire/agent/join_token/${token.trim().slice('Token: '.length)}`), agents)

    stage.step('A token works once')
    const refused = await stage.run(
      `assay agent run ${joinFlags} -joinTokenFile token -dataDir thief -socketPath thief.sock 2>&1 | tail -3`, { status: 1 })
    stage.checkMatch('who brings it again is refused', refused, /code: join_token_invalid/)

    stage.step('The first SVID')
    await stage.run('assay entry create -spiffeID spiffe://example.org/me -parentID spiffe://example.org/laptop' +
      ' -selector unix:uid:$(id -u) -wait -wait-timeout 2m')
    await stage.until('the agent has it', 'assay api fetch x509 -write . 2>&1', /Received 1 svid/)
    stage.checkMatch('the key is its owner\'s alone', await stage.run('stat -c %a svid.0.key'), /^600$/m)

    stage.step('Checked as a peer would')
    const verified = await stage.run('assay svid verify svid.0.pem -bundle bundle.pem')
    stage.checkMatch('the SVID is valid and says who it is', verified, /spiffe:\/\/example\.org\/me/)
    await stage.run('openssl verify -CAfile bundle.pem svid.0.pem')

    stage.step('It need not join again')
    await stage.stop(agent)
    await stage.startUntil('agent is serving', 'agent-again', `assay agent run ${joinFlags} -dataDir agent -socketPath agent.sock`)
    const again = await stage.until('the agent is back', 'assay api fetch x509 2>&1', /Received 1 svid/)
    stage.checkMatch('without a token, by the SVID that it kept', again, /spiffe:\/\/example\.org\/me/)
  }
}
