// The secret of a link: it stands behind # in the address, which browsers send to no server. It is taken out at once, so that it is
// neither in the browser's history nor seen over somebody's shoulder. No DOM.

/**
 * Take the secret out of the address of this page.
 * @returns {string} "" if there is none
 */
export function takeSecret() {
  const secret = location.hash.slice(1);
  if (secret || location.href.endsWith("#")) history.replaceState(history.state, "", location.pathname + location.search);
  return secret;
}
