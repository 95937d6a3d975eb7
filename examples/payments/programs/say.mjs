/** Tells the demo (or a log) what happened: one line of JSON. */
export function say(event, fields) {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}

/** Tells the identity that is in use now, and again each time a new one comes. */
export function sayIdentity(source) {
  const tell = () => {
    const { id, serial, notAfter, authorityId } = source.svid();
    say('identity', {
      spiffeID: id.uri,
      serial,
      expires: new Date(notAfter).toISOString(),
      authority: authorityId,
    });
  };
  tell();
  source.onUpdate(tell);
}
