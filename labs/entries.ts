import type { Lab } from './frame/lab.ts'
import { bash, openssl } from './frame/needs.ts'
import { startOneNode } from './frame/one-node.ts'

const parent = '-parentID spiffe://example.org/laptop'
const certificate = '-cert svid.0.pem -key svid.0.key -CAfile bundle.0.pem'

export const lab: Lab = {
  title: 'Entries: who gets which SVID, and what openssl finds in it',
  needs: [bash, openssl],
  proof: 'soak',
  async play (stage) {
    stage.step('A server and an agent')
    await startOneNode(stage)

    stage.step('No entry, no identity')
    const none = await stage.run('assay api fetch x509 -timeout 1m', { status: 1 })
    stage.checkMatch('the agent attests the caller and has nothing for it', none, /code: no_identity_issued/)

    stage.step('An entry says who gets what')
    await stage.run(`assay entry create -entryID shop -spiffeID spiffe://example.org/shop ${parent}` +
      ' -selector unix:uid:$(id -u) -x509SVIDTTL 600 -dns shop.internal')
    await stage.run(`assay entry create -entryID other -spiffeID spiffe://example.org/other ${parent} -selector unix:uid:4242`)
    await stage.until('the agent has it', 'assay api fetch x509 -timeout 1m -write . 2>&1 | grep -v after', /spiffe:\/\/example\.org\/shop/)
    stage.check('whoever runs under another user gets another SVID, or none', !(await stage.look('ls')).includes('svid.1.pem'))

    stage.step('What openssl finds in an SVID')
    const facts = await stage.run(
      'openssl x509 -in svid.0.pem -noout -subject -issuer -dates -ext subjectAltName,basicConstraints,keyUsage,extendedKeyUsage')
    stage.check('it has one URI, the SPIFFE ID', facts.split('URI:').length === 2 && facts.includes('URI:spiffe://example.org/shop'), facts)
    stage.check('it is no CA: it can sign no other', facts.includes('CA:FALSE') && !facts.includes('Certificate Sign'), facts)
    await stage.run('openssl verify -CAfile bundle.0.pem svid.0.pem')
    const seconds = Number(await stage.look(
      'echo $(( $(date -d "$(openssl x509 -in svid.0.pem -noout -enddate | cut -d= -f2)" +%s) - ' +
      '$(date -d "$(openssl x509 -in svid.0.pem -noout -startdate | cut -d= -f2)" +%s) ))'))
    stage.check('it lives as long as its entry says, ten minutes, and ten seconds for clocks that lag', seconds === 610, `${seconds} s`)
    await stage.run('cmp <(openssl x509 -in svid.0.pem -noout -pubkey) <(openssl pkey -in svid.0.key -pubout)')

    stage.step('Mutual TLS by hand')
    await stage.port('TLS_PORT')
    await stage.startUntil('ACCEPT', 's_server',
      `openssl s_server -accept 127.0.0.1:$TLS_PORT ${certificate} -Verify 2 -verify_return_error -tls1_2`)
    const client = 'echo | openssl s_client -connect 127.0.0.1:$TLS_PORT -tls1_2'
    const both = await stage.run(`${client} ${certificate} -verify_return_error 2>&1 | grep -E "Verify return code|Protocol +:"`)
    stage.checkMatch('both have an SVID: they speak', both, /Verify return code: 0 \(ok\)/)
    const bare = await stage.run(`${client} -CAfile bundle.0.pem 2>&1 | grep -o "alert handshake failure"`, { status: 1 })
    stage.checkMatch('a client without one is sent away', bare, /alert handshake failure/)

    stage.step('The same identity as a token')
    await stage.run("assay api fetch jwt -timeout 1m -audience till | sed -n 's/^\\t\\(eyJ.*\\)/\\1/p' > token.jwt")
    await stage.run('assay bundle show -format spiffe > bundle.json')
    const token = await stage.run('assay svid verify token.jwt -bundle bundle.json -audience till')
    stage.checkMatch('it is valid for whom it was asked', token, /spiffe:\/\/example\.org\/shop/)
    const others = await stage.run('assay svid verify token.jwt -bundle bundle.json -audience bank', { status: 1 })
    stage.checkMatch('and for nobody else', others, /code: jwt_svid_invalid/)

    stage.step('The entry goes')
    await stage.run('assay entry delete -entryID shop')
    const gone = await stage.until('the agent knows', 'assay api fetch x509 -timeout 1m', /code: no_identity_issued/)
    stage.checkMatch('no entry, no identity', gone, /no_identity_issued/)
    await stage.run('openssl verify -CAfile bundle.0.pem svid.0.pem')
  }
}
